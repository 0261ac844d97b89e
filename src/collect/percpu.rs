//! Tables of one column for each CPU (`/proc/interrupts`, `/proc/softirqs`).

use crate::host::parse;

/// The numbers of the CPUs in the heading of a table, `CPU0 CPU1 CPU3`: the column says nothing of the number where a CPU is offline. `None` when it is none.
pub(super) fn heading(line: &[u8]) -> Option<Vec<u64>> {
    let cpus: Vec<u64> = parse::fields(line).map(|field| field.strip_prefix(b"CPU").and_then(parse::unsigned)).collect::<Option<_>>()?;
    // Two columns of one number would be two samples of the same labels.
    (!cpus.is_empty() && cpus.is_sorted_by(|a, b| a < b)).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_names_the_cpus() {
        assert_eq!(heading(b"           CPU0       CPU1       CPU3  "), Some(vec![0, 1, 3]));
        for odd in [&b"  "[..], b"CPU0 CPU0", b"CPU", b"HI: 0", b"\xff"] {
            assert_eq!(heading(odd), None);
        }
    }
}
