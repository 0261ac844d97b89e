//! Any bytes as a message of a bus, read with the types that systemd's and logind's answers have.
#![no_main]

use skep::host::dbus::{Fields, reply};

/// Reads as the signature says, as far as there is anything.
fn read(fields: &mut Fields<'_>, signature: &str) -> Option<()> {
    for kind in signature.bytes() {
        match kind {
            b's' | b'o' => drop(fields.text()?),
            b'u' => drop(fields.u32()?),
            b'(' => fields.align(8)?,
            b'v' => drop(fields.variant()?),
            _ => {}
        }
    }
    Some(())
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(Ok(reply)) = reply(bytes) else { return };
    drop(reply.value());
    for signature in ["a(ssssssouso)", "a(susso)", "as", "u", "ss"] {
        let Some(mut fields) = reply.fields(signature) else { continue };
        match signature.strip_prefix('a') {
            None => drop(read(&mut fields, signature)),
            Some(of_each) => {
                let Some(mut each) = fields.array(if of_each.starts_with('(') { 8 } else { 4 }) else { continue };
                while each.more() && read(&mut each, of_each).is_some() {}
            }
        }
    }
});
