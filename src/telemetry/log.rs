//! skep's own log: one line an event on standard error, in logfmt as node_exporter writes it, or in JSON.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::config::LogConfig;

static LEVEL: AtomicUsize = AtomicUsize::new(3);

/// Installs the log. A second call changes nothing.
pub fn install(config: LogConfig) {
    set_level(config.level);
    let subscriber = tracing_subscriber::registry().with(Lines { json: config.json });
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("the log is installed already");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |place| format!("{}:{}", place.file(), place.line()));
        tracing::error!(place, "a fault of skep's own, contained where it happened; please report it");
    }));
}

/// Sets the least important level that is written, at any time.
pub fn set_level(level: Level) {
    LEVEL.store(rank(&level), Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

fn rank(level: &Level) -> usize {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

struct Lines {
    json: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    /// Libraries only from a warning on: bollard logs whole answers of the engine at debug level.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let own = metadata.target() == "skep" || metadata.target().starts_with("skep::");
        rank(metadata.level()) <= LEVEL.load(Ordering::Relaxed).min(if own { 5 } else { 2 })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields { json: self.json, message: String::new(), rest: String::new() };
        event.record(&mut fields);
        let mut time = Vec::new();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        crate::logs::time::write_rfc3339(i64::try_from(now.as_nanos()).unwrap_or_default(), &mut time);
        let time = String::from_utf8_lossy(&time);
        let level = event.metadata().level();
        let line = if self.json {
            format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"msg\":{}{}}}\n", quoted(&fields.message), fields.rest)
        } else {
            format!("time={time} level={level} msg={}{}\n", quoted(&fields.message), fields.rest)
        };
        // Nothing can be done, and nothing be said, when standard error is gone.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

struct Fields {
    json: bool,
    message: String,
    rest: String,
}

impl Fields {
    fn field(&mut self, name: &str, value: &str) {
        let written =
            if self.json { write!(self.rest, ",\"{name}\":{}", quoted(value)) } else { write!(self.rest, " {name}={}", bare(value)) };
        debug_assert!(written.is_ok(), "writing to a String");
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else if !field.name().starts_with("log.") {
            self.field(field.name(), value);
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn bare(text: &str) -> String {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'));
    if plain { text.to_owned() } else { quoted(text) }
}
