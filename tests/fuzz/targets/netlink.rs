//! Any bytes as what the kernel answers on a netlink socket.
#![no_main]

use skep::host::{netlink, rtnetlink};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut count = 0;
    for message in netlink::messages(bytes).map_while(Result::ok) {
        count += 1;
        let of_link = rtnetlink::attributes(message.body, rtnetlink::LINK_HEAD);
        for (_, value) in netlink::generic_attributes(message.body).chain(of_link) {
            let nested = netlink::attributes(value).count();
            assert!(nested <= value.len());
            let _ = (netlink::number32(value), netlink::number64(value), netlink::name(value), message.is_part());
        }
        if let Some((_, name)) = rtnetlink::link(message.body) {
            assert!(name.len() < message.body.len());
        }
    }
    assert!(count <= bytes.len());
});
