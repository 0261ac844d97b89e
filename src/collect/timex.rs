//! `node_timex_*`: how the kernel's clock is steered, as `adjtimex(2)` tells it. The clock is one for the whole machine, so a container asks for the host.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::sys::adjtimex;
use crate::model::{Kind, Value};

pub(super) const ENTRY: Entry = entry!("timex", on, &[], |_| Ok(Box::new(Timex)));

struct Timex;

/// What `adjtimex` returns when no reliable server steers the clock.
const TIME_ERROR: i32 = 5;
/// The parts of one in the fixed-point numbers of frequencies: 16 bits of fraction, of parts per million.
const SCALED_PPM: f64 = 1_000_000.0 * 65_536.0;
const MICROSECONDS: f64 = 1_000_000.0;
const NANOSECONDS: f64 = 1_000_000_000.0;

/// Names, types and help texts, in the order of [`values`].
const FAMILIES: [(&str, Kind, &str); 17] = [
    ("node_timex_sync_status", Kind::Gauge, "Is clock synchronized to a reliable server (1 = yes, 0 = no)."),
    ("node_timex_offset_seconds", Kind::Gauge, "Time offset in between local system and reference clock."),
    ("node_timex_frequency_adjustment_ratio", Kind::Gauge, "Local clock frequency adjustment."),
    ("node_timex_maxerror_seconds", Kind::Gauge, "Maximum error in seconds."),
    ("node_timex_estimated_error_seconds", Kind::Gauge, "Estimated error in seconds."),
    ("node_timex_status", Kind::Gauge, "Value of the status array bits."),
    ("node_timex_loop_time_constant", Kind::Gauge, "Phase-locked loop time constant."),
    ("node_timex_tick_seconds", Kind::Gauge, "Seconds between clock ticks."),
    ("node_timex_pps_frequency_hertz", Kind::Gauge, "Pulse per second frequency."),
    ("node_timex_pps_jitter_seconds", Kind::Gauge, "Pulse per second jitter."),
    ("node_timex_pps_shift_seconds", Kind::Gauge, "Pulse per second interval duration."),
    ("node_timex_pps_stability_hertz", Kind::Gauge, "Pulse per second stability, average of recent frequency changes."),
    ("node_timex_pps_jitter_total", Kind::Counter, "Pulse per second count of jitter limit exceeded events."),
    ("node_timex_pps_calibration_total", Kind::Counter, "Pulse per second count of calibration intervals."),
    ("node_timex_pps_error_total", Kind::Counter, "Pulse per second count of calibration errors."),
    ("node_timex_pps_stability_exceeded_total", Kind::Counter, "Pulse per second count of stability limit exceeded events."),
    ("node_timex_tai_offset_seconds", Kind::Gauge, "International Atomic Time (TAI) offset."),
];

impl Collector for Timex {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (state, timex) = match adjtimex() {
            Ok(answer) => answer,
            // A seccomp profile that forbids the call, as older engines have one (moby issue 33403): there is nothing to be had.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(Presence::Absent),
            Err(error) => return Err(CollectError::Other(format!("adjtimex: {error}"))),
        };
        for ((name, kind, help), value) in FAMILIES.into_iter().zip(values(state, &timex)) {
            pass.out.family(name, kind, help).sample(&[], value);
        }
        Ok(Presence::Present)
    }
}

/// The values in the order of [`FAMILIES`]. Offset and jitter are in nanoseconds when `STA_NANO` says so, and in microseconds otherwise; the other times are
/// always in microseconds.
fn values(state: i32, timex: &libc::timex) -> [Value; FAMILIES.len()] {
    let fraction = if timex.status & libc::STA_NANO == 0 { MICROSECONDS } else { NANOSECONDS };
    [
        (state != TIME_ERROR).into(),
        (timex.offset as f64 / fraction).into(),
        (1.0 + timex.freq as f64 / SCALED_PPM).into(),
        (timex.maxerror as f64 / MICROSECONDS).into(),
        (timex.esterror as f64 / MICROSECONDS).into(),
        i64::from(timex.status).into(),
        timex.constant.into(),
        (timex.tick as f64 / MICROSECONDS).into(),
        (timex.ppsfreq as f64 / SCALED_PPM).into(),
        (timex.jitter as f64 / fraction).into(),
        i64::from(timex.shift).into(),
        (timex.stabil as f64 / SCALED_PPM).into(),
        timex.jitcnt.into(),
        timex.calcnt.into(),
        timex.errcnt.into(),
        timex.stbcnt.into(),
        i64::from(timex.tai).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_kernel() {
        // A sandbox may forbid the call, and then there is no structure to fill.
        let Ok((_, mut timex)) = adjtimex() else { return };
        (timex.offset, timex.freq, timex.maxerror, timex.esterror) = (-1500, 655_360, 16_000_000, 250);
        (timex.constant, timex.tick, timex.tai, timex.shift, timex.ppsfreq) = (7, 10_000, 37, 2, -65_536);
        (timex.jitter, timex.stabil, timex.jitcnt, timex.calcnt, timex.errcnt, timex.stbcnt) = (3, 65_536, 4, 5, 6, 8);
        timex.status = libc::STA_PLL;
        let number = |value: Value| match value {
            Value::Unsigned(number) => number as f64,
            Value::Signed(number) => number as f64,
            Value::Float(number) => number,
        };
        let found = values(0, &timex).map(number);
        let expected = [1.0, -0.0015, 1.00001, 16.0, 0.00025, 1.0, 7.0, 0.01, -1e-6, 3e-6, 2.0, 1e-6, 4.0, 5.0, 6.0, 8.0, 37.0];
        assert_eq!(found, expected);
        timex.status = libc::STA_NANO | libc::STA_UNSYNC;
        let found = values(TIME_ERROR, &timex).map(number);
        assert_eq!((found[0], found[1], found[3], found[5], found[9]), (0.0, -1.5e-6, 16.0, 8256.0, 3e-9));
    }
}
