//! What an X.509 certificate (RFC 5280 §4.1) says of itself, as far as its owner wants to know it: number and dates.

/// Of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// 1 to 3.
    pub version: u8,
    /// The serial number, in hexadecimal, as `openssl x509 -serial` shows it.
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`: the version.
const VERSION: u8 = 0xA0;

/// Reads them from the certificate's DER. `None`: it is not a certificate.
pub fn facts(der: &[u8]) -> Option<Facts> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (signed, _) = element(certificate, SEQUENCE)?;
    let (version, rest) = match element(signed, VERSION) {
        // Counted from 0.
        Some((version, rest)) => (element(version, INTEGER)?.0.last()?.saturating_add(1), rest),
        None => (1, signed),
    };
    let (serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    // A leading zero keeps a large number positive.
    let serial = serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial);
    Some(Facts { version, serial: serial.iter().map(|byte| format!("{byte:02X}")).collect(), not_before, not_after })
}

/// The content of one element with this tag, and what follows it (X.690 §8.1).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first().filter(|_| first == tag)?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let (bytes, rest) =
            rest.split_at_checked(usize::from(short & 0x7F)).filter(|it| (1..=4).contains(&it.0.len()))?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}

/// RFC 5280 §4.1.2.5: `YYMMDDHHMMSSZ` to 2049, `YYYYMMDDHHMMSSZ` from 2050 on.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest, years) = match element(der, UTC_TIME) {
        Some((text, rest)) => (text, rest, 2),
        None => element(der, GENERALIZED_TIME).map(|(text, rest)| (text, rest, 4))?,
    };
    let text = text.strip_suffix(b"Z").filter(|text| text.iter().all(u8::is_ascii_digit))?;
    if text.len() != years + 10 {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, text) = text.split_at(years);
    let year = match (years, number(year)) {
        (2, year @ 50..) => 1900 + year,
        (2, year) => 2000 + year,
        (_, year) => year,
    };
    let mut parts = text.chunks(2).map(number);
    let mut part = || parts.next().unwrap_or(0);
    let (month, day, hour, minute, second) = (part(), part(), part(), part(), part());
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second, rest))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. The year begins in March here, so that its last month is the
/// one that varies.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719468 days from 0000-03-01 to 1970-01-01.
    365 * year + leap + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head =
            if length < 0x80 { vec![tag, length as u8] } else { vec![tag, 0x82, (length >> 8) as u8, length as u8] };
        [head, content.to_vec()].concat()
    }

    fn certificate(serial: &[u8], from: (u8, &str), to: (u8, &str)) -> Vec<u8> {
        let validity = [der(from.0, from.1.as_bytes()), der(to.0, to.1.as_bytes())].concat();
        let parts = [
            der(VERSION, &der(INTEGER, &[2])),
            der(INTEGER, serial),
            der(SEQUENCE, b"algorithm"),
            der(SEQUENCE, &[0x31; 200]),
            der(SEQUENCE, &validity),
            der(SEQUENCE, b"subject"),
        ];
        der(SEQUENCE, &[der(SEQUENCE, &parts.concat()), der(SEQUENCE, b"")].concat())
    }

    #[test]
    fn numbers_and_dates() {
        let read = |serial: &[u8], from, to| facts(&certificate(serial, from, to));
        let facts = read(&[0, 0xA1, 2], (UTC_TIME, "700101000000Z"), (GENERALIZED_TIME, "20500229123456Z")).unwrap();
        // `date -u -d '2050-03-01 12:34:56' +%s`: there is no 29th of February in 2050.
        assert_eq!(facts, Facts { version: 3, serial: "A102".to_owned(), not_before: 0, not_after: 2_529_750_896 });
        let facts = read(&[0], (UTC_TIME, "000229235959Z"), (UTC_TIME, "491231235959Z")).unwrap();
        assert_eq!((facts.serial.as_str(), facts.not_before, facts.not_after), ("00", 951_868_799, 2_524_607_999));
        for (from, to) in [
            ((UTC_TIME, "0002292359Z"), (UTC_TIME, "491231235959Z")),
            ((UTC_TIME, "001329235959Z"), (UTC_TIME, "491231235959Z")),
            ((UTC_TIME, "000229235959+"), (UTC_TIME, "491231235959Z")),
            ((GENERALIZED_TIME, "000229235959Z"), (UTC_TIME, "491231235959Z")),
        ] {
            assert_eq!(read(&[1], from, to), None, "{from:?}");
        }
    }

    proptest! {
        #[test]
        fn any_day_follows_the_day_before(day in -200_000..200_000i64) {
            // chrono's calendar is the witness.
            let date = chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap().date_naive();
            use chrono::Datelike;
            prop_assert_eq!(days(i64::from(date.year()), i64::from(date.month()), i64::from(date.day())), day);
        }

        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0..60usize, byte: u8, cut in 0..300usize) {
            facts(&bytes);
            bytes = certificate(&[1], (UTC_TIME, "000229235959Z"), (UTC_TIME, "491231235959Z"));
            bytes[at] = byte;
            bytes.truncate(cut);
            facts(&bytes);
        }
    }
}
