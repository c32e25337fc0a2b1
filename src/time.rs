//! Instants, as values: the boot clock that decides, and the wall clock that is only ever written for people.
//!
//! PURE: reads no clock. `crate::sys` reads them; everything else is handed the result.

use std::fmt;
use std::ops::{Add, Range, Sub};
use std::time::Duration;

/// An instant on this machine's boot clock (`CLOCK_BOOTTIME`), in nanoseconds.
///
/// Unlike `std::time::Instant` on Linux it keeps counting while the machine is suspended, which is when a leader
/// is most likely to outlive its lease. Two machines' boot clocks have nothing in common but their rate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BootTime(pub u64);

impl BootTime {
    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: BootTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, span: Duration) -> BootTime {
        BootTime(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for BootTime {
    type Output = BootTime;

    fn sub(self, span: Duration) -> BootTime {
        BootTime(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A wall-clock time as Kubernetes' `MicroTime` holds it: microseconds since 1970-01-01T00:00:00Z.
///
/// Written into Leases for people to read; never compared with a clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallTime(pub i64);

/// Both clocks, read at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// What decides.
    pub boot: BootTime,
    /// What is written.
    pub wall: WallTime,
}

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl WallTime {
    /// The last time that can be written: RFC 3339 has four digits for the year.
    pub const LAST: WallTime = WallTime(253_402_300_799_999_999);

    /// Reads an RFC 3339 time of any precision and any offset (`2026-11-22T15:04:05Z`,
    /// `2026-11-22T16:04:05.123456789+01:00`); digits beyond the microsecond are dropped. `None`: not a time.
    pub fn parse(text: &str) -> Option<WallTime> {
        let (local, zone) = text.split_at(text.rfind(['Z', 'z', '+', '-'])?);
        let (whole, fraction) = local.split_once(['.', ',']).unwrap_or((local, "0"));
        // With a zero for each digit; so every part that is read below is a number.
        let shape = |text: &str| text.to_ascii_uppercase().replace(|c: char| c.is_ascii_digit(), "0");
        let is_fraction = !fraction.is_empty() && shape(fraction).trim_matches('0').is_empty();
        if !is_fraction || !matches!(&*shape(whole), "0000-00-00T00:00:00" | "0000-00-00 00:00:00") {
            return None;
        }
        let number = |text: &str, place: Range<usize>| text.get(place)?.parse::<i64>().ok();
        let (year, month, day) = (number(whole, 0..4)?, number(whole, 5..7)?, number(whole, 8..10)?);
        let (hour, minute, second) = (number(whole, 11..13)?, number(whole, 14..16)?, number(whole, 17..19)?);
        let micros = number(&format!("{fraction:0<6.6}"), 0..6)?;
        let days = days_from_civil(year, month, day);
        // A day that no month has comes back as another.
        if civil_from_days(days) != (year, month, day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let offset = match &*shape(zone) {
            "Z" => 0,
            "+00:00" | "-00:00" => {
                let (hours, minutes) = (number(zone, 1..3)?, number(zone, 4..6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 3600 + minutes * 60) * if zone.starts_with('-') { -1 } else { 1 }
            }
            _ => return None,
        };
        let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
        Some(WallTime(seconds * MICROS_PER_SECOND + micros))
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }
}

impl fmt::Display for WallTime {
    /// Exactly six fraction digits and `Z`: the only form every API server accepts for a `MicroTime`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let (in_day, micros) = (seconds.rem_euclid(SECONDS_PER_DAY), self.0.rem_euclid(MICROS_PER_SECOND));
        let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. The year is taken to begin in March, so that the
/// leap day is its last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

/// A span for people: `2.1s`, `3m 12s`, `5h 3m`, `2d 4h`.
pub fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_hundred_years_survives_the_round_trip() {
        for day in -150_000..150_000 {
            let (year, month, of_month) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(11_016), (2000, 2, 29));
    }

    #[test]
    fn micro_time_is_written_with_six_digits_and_z() {
        assert_eq!(WallTime(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(WallTime(1_795_359_845_000_007).to_string(), "2026-11-22T15:04:05.000007Z");
        assert_eq!(WallTime::LAST.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(WallTime(-1).to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn times_of_any_precision_and_offset_are_read() {
        let expected = WallTime(1_795_359_845_120_000);
        for text in [
            "2026-11-22T15:04:05.12Z",
            "2026-11-22T15:04:05.120000Z",
            "2026-11-22T15:04:05.120000999Z",
            "2026-11-22T16:34:05.12+01:30",
            "2026-11-22T14:04:05.120-01:00",
            "2026-11-22t15:04:05.12z",
        ] {
            assert_eq!(WallTime::parse(text), Some(expected), "{text}");
        }
        assert_eq!(WallTime::parse("1970-01-01T00:00:00Z"), Some(WallTime(0)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-22",
            "2026-11-22T15:04:05",
            "2026-11-22T15:04:05.Z",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T15:04:05+1:00",
            "2026-11-22T15:04:05Zx",
            "2026-11-22T15:04:05+99:00",
            "２026-11-22T15:04:05Z",
        ] {
            assert_eq!(WallTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_short_and_readable() {
        for (seconds, expected) in [(0, "0.0s"), (59, "59.0s"), (192, "3m 12s"), (18_180, "5h 3m"), (187_200, "2d 4h")]
        {
            assert_eq!(human(Duration::from_secs(seconds)), expected);
        }
    }
}
