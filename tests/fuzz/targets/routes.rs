//! Any text as a route with its filter, a list of routes, the name of an index, a time, a size.
#![no_main]

use std::sync::LazyLock;

use skep::config::{RouteSpec, split_list, units};
use skep::logs::index::IndexPattern;
use skep::logs::{ContainerId, ContainerMeta};

static ID: LazyLock<ContainerId> = LazyLock::new(|| ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap());

libfuzzer_sys::fuzz_target!(|text: &str| {
    for route in split_list(text) {
        if let Ok(spec) = RouteSpec::parse(route) {
            assert!(!spec.name().is_empty());
            let meta = ContainerMeta { name: text.to_owned(), ..ContainerMeta::default() };
            let _is_wanted = spec.filter.wants(&ID, &meta);
        }
    }
    drop((units::duration(text), units::size(text)));
    if let Ok(index) = IndexPattern::parse(text) {
        for time in [i64::MIN, 0, i64::MAX] {
            index.write(time, &mut Vec::new());
        }
    }
});
