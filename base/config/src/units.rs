//! In: a text with a unit. Out: durations in milliseconds, sizes in bytes,
//! percentages. Never guesses a unit that is missing; says which was meant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The same as the standard library's type.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    /// The largest unit that says it exactly; one day is `24h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        if n == 0 {
            return f.write_str("0s");
        }
        if n.is_multiple_of(DAY) && n > DAY {
            write!(f, "{}d", n / DAY)
        } else if n.is_multiple_of(HOUR) {
            write!(f, "{}h", n / HOUR)
        } else if n.is_multiple_of(MINUTE) {
            write!(f, "{}m", n / MINUTE)
        } else if n.is_multiple_of(SECOND) {
            write!(f, "{}s", n / SECOND)
        } else {
            write!(f, "{n}ms")
        }
    }
}

pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let exact = ["GiB", "GB", "MiB", "MB", "KiB", "KB"]
            .into_iter()
            .filter_map(|unit| size_factor(unit).map(|factor| (unit, factor)))
            .find(|(_, factor)| n >= *factor && n.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => write!(f, "{}{unit}", n / factor),
            None => write!(f, "{n}B"),
        }
    }
}

/// A percentage in hundredths of a percent: `1%` is 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(pub u32);

impl Percent {
    /// As a part of one: `1%` is 0.01.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        if part == 0 {
            write!(f, "{whole}%")
        } else if part.is_multiple_of(10) {
            write!(f, "{whole}.{}%", part / 10)
        } else {
            write!(f, "{whole}.{part:02}%")
        }
    }
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnitError {
    /// A number and nothing behind it.
    NoUnit,
    /// A number and something behind it that is no unit.
    UnknownUnit(String),
    /// It does not begin with a number.
    NotANumber,
    /// Larger than the type can say.
    TooBig,
}

/// `500ms 90s 10m 2h 30d`, with at most three decimals.
pub(crate) fn parse_duration(text: &str) -> Result<Millis, UnitError> {
    let (thousandths, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        other => return Err(unknown(other)),
    };
    scaled(thousandths, factor).map(Millis)
}

/// `60MB 2GiB`, with at most three decimals.
pub(crate) fn parse_size(text: &str) -> Result<Bytes, UnitError> {
    let (thousandths, unit) = split(text)?;
    let factor = size_factor(unit).ok_or_else(|| unknown(unit))?;
    scaled(thousandths, factor).map(Bytes)
}

/// `80%`, `0.5%`.
pub(crate) fn parse_percent(text: &str) -> Result<Percent, UnitError> {
    let (thousandths, unit) = split(text)?;
    if unit != "%" {
        return Err(unknown(unit));
    }
    u32::try_from(thousandths / 10).map(Percent).map_err(|_| UnitError::TooBig)
}

/// The unit that a misspelt duration unit stands for.
pub(crate) fn duration_unit_meant(unit: &str) -> Option<&'static str> {
    let unit = unit.to_lowercase();
    Some(match unit.as_str() {
        "ms" | "msec" | "millis" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    })
}

/// The unit that a misspelt size unit stands for.
pub(crate) fn size_unit_meant(unit: &str) -> Option<&'static str> {
    let unit = unit.to_lowercase();
    Some(match unit.as_str() {
        "b" | "byte" | "bytes" => "B",
        "k" | "kb" => "KB",
        "m" | "mb" => "MB",
        "g" | "gb" => "GB",
        "t" | "tb" => "TB",
        "ki" | "kib" => "KiB",
        "mi" | "mib" => "MiB",
        "gi" | "gib" => "GiB",
        "ti" | "tib" => "TiB",
        _ => return None,
    })
}

fn size_factor(unit: &str) -> Option<u64> {
    Some(match unit {
        "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    })
}

fn unknown(unit: &str) -> UnitError {
    let unit = unit.trim();
    if unit.is_empty() { UnitError::NoUnit } else { UnitError::UnknownUnit(unit.to_owned()) }
}

fn scaled(thousandths: u64, factor: u64) -> Result<u64, UnitError> {
    thousandths.checked_mul(factor).map(|product| product / 1_000).ok_or(UnitError::TooBig)
}

/// The number in thousandths, and what stands behind it.
fn split(text: &str) -> Result<(u64, &str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Ok((thousandths(number)?, unit))
}

/// The number at the beginning, in thousandths.
pub(crate) fn thousandths(number: &str) -> Result<u64, UnitError> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return Err(UnitError::NotANumber);
    }
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooBig)?;
    let part: u64 = format!("{part:0<3}").parse().map_err(|_| UnitError::NotANumber)?;
    whole.checked_mul(1_000).and_then(|sum| sum.checked_add(part)).ok_or(UnitError::TooBig)
}
