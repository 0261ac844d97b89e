//! The page for people.

use std::fmt::Write as _;

use super::Pages;
use crate::telemetry::State;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd;vertical-align:top}\
th{font-weight:600}code{font-size:90%}.ok{color:#17692f}.degraded{color:#a11}.off{color:#777}h1{font-size:1.5rem}h2{font-size:1.1rem}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#333}a{color:#8ab4f8}.ok{color:#6fcf8b}.degraded{color:#ff8a80}}";

/// The page: this node, how its parts are, its containers, and links to everything else.
pub(super) fn render(pages: &Pages) -> String {
    let mut page = String::with_capacity(8 << 10);
    let node = &pages.node;
    let name = escaped(&node.name);
    let put = |page: &mut String, text: std::fmt::Arguments<'_>| {
        let written = page.write_fmt(text);
        debug_assert!(written.is_ok(), "writing to a String");
    };
    put(
        &mut page,
        format_args!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>skep on {name}</title><style>{STYLE}</style>"
        ),
    );
    put(&mut page, format_args!("<h1>skep on {name}</h1><p>version {}", env!("CARGO_PKG_VERSION")));
    if let Some(id) = &node.id {
        put(&mut page, format_args!(", node <code>{}</code>", escaped(id)));
    }
    let path = escaped(&pages.telemetry_path);
    put(&mut page, format_args!("</p><p>Metrics: <a href=\"{path}\">all</a>"));
    for group in ["node", "containers", "skep"] {
        put(&mut page, format_args!(", <a href=\"{path}/{group}\">{group}</a>"));
    }
    put(&mut page, format_args!(". State: <a href=\"/readyz\">/readyz</a>, <a href=\"/healthz\">/healthz</a>.</p><h2>Parts</h2><table>"));
    for (part, state) in pages.parts.all() {
        let (class, why) = match &state {
            State::Ok => ("ok", ""),
            State::Degraded(why) => ("degraded", &**why),
            State::Starting => ("starting", ""),
            State::Off(why) => ("off", &**why),
        };
        put(&mut page, format_args!("<tr><td>{}<td class=\"{class}\">{class}<td>{}", escaped(&part), escaped(why)));
    }
    put(
        &mut page,
        format_args!(
            "</table><h2>Logs</h2><p>{}</p>",
            match pages.routes.len() {
                0 => "No route: logs are not shipped. Give one with <code>--route</code>.".to_owned(),
                _ => pages.routes.iter().map(|route| format!("<code>{}</code>", escaped(route))).collect::<Vec<_>>().join(", "),
            }
        ),
    );
    let inventory = pages.inventory.borrow().clone();
    put(&mut page, format_args!("<h2>Containers ({})</h2><table><tr><th>Name<th>Image<th>State<th>Id", inventory.containers.len()));
    for container in inventory.containers.values() {
        put(
            &mut page,
            format_args!(
                "<tr><td>{}<td>{}<td>{}<td><code>{}</code>",
                escaped(&container.name),
                escaped(&container.image),
                escaped(&container.state),
                container.id.short(),
            ),
        );
    }
    page.push_str("</table></html>\n");
    page
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}
