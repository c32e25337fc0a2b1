//! The fields of `/proc/PID/stat`. PURE.

/// Field `number` of a process's `stat`, counted as proc(5) does. The second field, the program's name, may hold blanks,
/// parentheses and line ends; every later one is a word.
pub fn stat_field(stat: &[u8], number: usize) -> Option<&str> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = b"42 (a) Z 1 (\n) S 7 40 40 0 -1";
        let fields = [3, 4, 5, 8].map(|number| stat_field(stat, number));
        assert_eq!(fields, [Some("S"), Some("7"), Some("40"), Some("-1")]);
    }

    #[test]
    fn a_field_that_is_not_there_is_none() {
        for stat in [&b""[..], b"1", b"1 (x", b"1 (x)", b"1 (x) S", b"1 (x) \xff 7"] {
            assert_eq!(stat_field(stat, 4), None);
        }
        assert_eq!(stat_field(b"1 (x) S 7", 2), None, "the name is not a field that can be asked for");
    }
}
