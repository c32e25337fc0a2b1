//! The two time formats of the API: `Time` (seconds) and `MicroTime` (exactly six fraction digits).
//!
//! PURE. Written apart from leasehold's own parser on purpose: an oracle that shares its code shares its mistakes.

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// `2026-11-22T15:04:05Z`, as `creationTimestamp` has it.
pub fn seconds_text(wall_micros: i64) -> String {
    let (date, second) =
        (date_text(wall_micros), wall_micros.div_euclid(MICROS_PER_SECOND).rem_euclid(SECONDS_PER_DAY));
    format!("{date}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// `2026-11-22T15:04:05.000001Z`, as `renewTime` has it.
pub fn micros_text(wall_micros: i64) -> String {
    let mut text = seconds_text(wall_micros);
    text.truncate(text.len() - 1);
    format!("{text}.{:06}Z", wall_micros.rem_euclid(MICROS_PER_SECOND))
}

fn date_text(wall_micros: i64) -> String {
    let mut days = wall_micros.div_euclid(MICROS_PER_SECOND * SECONDS_PER_DAY);
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += days_in_year(year);
    }
    while days >= days_in_year(year) {
        days -= days_in_year(year);
        year += 1;
    }
    let mut month = 0;
    while days >= days_in_month(year, month) {
        days -= days_in_month(year, month);
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, days + 1)
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

/// `month` counts from 0.
fn days_in_month(year: i64, month: usize) -> i64 {
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if month == 1 && is_leap(year) { 29 } else { DAYS[month] }
}

/// Reads a `MicroTime` as the API server does: six fraction digits, then `Z` or an offset. Anything else is `None`.
pub fn parse_micro_time(text: &str) -> Option<i64> {
    let (seconds, rest) = parse_seconds(text)?;
    let digits = rest.strip_prefix('.')?;
    let fraction = digits.get(..6).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let offset = parse_offset(&digits[6..])?;
    Some((seconds - offset) * MICROS_PER_SECOND + fraction.parse::<i64>().ok()?)
}

/// Reads a `Time`: any fraction, of which the API server keeps nothing.
pub fn parse_time(text: &str) -> Option<i64> {
    let (seconds, rest) = parse_seconds(text)?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return None;
            }
            zone
        }
        None => rest,
    };
    Some((seconds - parse_offset(rest)?) * MICROS_PER_SECOND)
}

/// The part before the fraction, in seconds since 1970, and what follows it.
fn parse_seconds(text: &str) -> Option<(i64, &str)> {
    let shape = text.get(..19)?.bytes().zip("dddd-dd-ddTdd:dd:dd".bytes());
    if !shape.into_iter().all(|(byte, wanted)| if wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted }) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let month_index = usize::try_from(month - 1).ok()?;
    if day < 1 || day > days_in_month(year, month_index) {
        return None;
    }
    let leaps_before = |y: i64| (y - 1).div_euclid(4) - (y - 1).div_euclid(100) + (y - 1).div_euclid(400);
    let days = (year - 1970) * 365 + leaps_before(year) - leaps_before(1970)
        + (0..month_index).map(|m| days_in_month(year, m)).sum::<i64>()
        + day
        - 1;
    Some((days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second, &text[19..]))
}

/// `Z`, `+01:00` or `-07:30`, in seconds.
fn parse_offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let bytes = text.as_bytes();
    if bytes.len() != 6 || bytes[3] != b':' || !text.is_ascii() {
        return None;
    }
    let (hours, minutes) = (text[1..3].parse::<i64>().ok()?, text[4..6].parse::<i64>().ok()?);
    let sign = match bytes[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    (hours <= 24 && minutes <= 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_the_same_instant() {
        for text in ["1970-01-01T00:00:00.000000Z", "2026-11-22T15:04:05.000001Z", "2024-02-29T23:59:59.999999Z"] {
            assert_eq!(micros_text(parse_micro_time(text).unwrap()), text);
        }
        assert_eq!(micros_text(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(parse_micro_time("1970-01-02T00:00:00.000001Z"), Some(86_400_000_001));
        assert_eq!(seconds_text(1_000_000_000_999_999), "2001-09-09T01:46:40Z");
    }

    #[test]
    fn offsets_are_taken_off() {
        assert_eq!(
            parse_micro_time("2026-01-02T03:04:05.000006+01:00"),
            parse_micro_time("2026-01-02T02:04:05.000006Z")
        );
        assert_eq!(
            parse_micro_time("2026-01-02T03:04:05.000006-00:30"),
            parse_micro_time("2026-01-02T03:34:05.000006Z")
        );
    }

    #[test]
    fn micro_time_has_exactly_six_digits() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.123Z",
            "2026-01-02T03:04:05.123456789Z",
            "2026-01-02T03:04:05.123456",
            "2026-13-02T03:04:05.123456Z",
            "2026-02-30T03:04:05.123456Z",
            "2026-01-02 03:04:05.123456Z",
            "x",
            "",
        ] {
            assert_eq!(parse_micro_time(text), None, "{text:?}");
        }
    }

    #[test]
    fn time_takes_any_fraction() {
        assert_eq!(parse_time("1970-01-01T00:00:01.9Z"), Some(1_000_000));
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(parse_time("1970-01-01T00:00:01.Z"), None);
        assert_eq!(parse_time("1970-01-01"), None);
    }
}
