//! In: nodes that say how much. Out: numbers, durations, sizes, percentages
//! within their limits. Never takes a number for one with a unit.

use crate::model::{Bytes, Millis, Percent, Quantity, Spanned};
use crate::problem::quoted;
use crate::read::Reader;
use crate::units::{UnitError, duration_unit_meant, parse_duration, parse_percent, parse_size, size_unit_meant};
use crate::yaml::Node;

/// What a duration of one key may be.
pub(crate) struct DurationRule {
    /// The unit that was probably meant by a small bare number.
    pub(crate) usual: &'static str,
    /// The shortest, in milliseconds.
    pub(crate) least: u64,
    /// The longest, in milliseconds.
    pub(crate) most: u64,
}

impl Reader<'_> {
    /// A whole number within these limits.
    pub(crate) fn number(&mut self, node: &Node, key: &str, least: u32, most: u32) -> Option<Spanned<u32>> {
        let (text, plain) = self.scalar(node, key)?;
        let number = whole(text);
        if !plain && number.is_some() {
            let message = format!("{} must be a number, not text", quoted(key));
            self.error(node.at, &message, Some("write it without the quotes"));
            return None;
        }
        let fits =
            number.and_then(|number| u32::try_from(number).ok()).filter(|number| (least..=most).contains(number));
        if let Some(number) = fits {
            return Some(Spanned::new(number, node.at));
        }
        let message = format!("{} must be a whole number from {least} to {most}", quoted(key));
        self.error(node.at, &message, None);
        None
    }

    /// A duration with its unit.
    pub(crate) fn duration(&mut self, node: &Node, key: &str, rule: &DurationRule) -> Option<Spanned<Millis>> {
        let (text, _) = self.scalar(node, key)?;
        match parse_duration(text) {
            Ok(value) if (rule.least..=rule.most).contains(&value.0) => {
                return Some(Spanned::new(value, node.at));
            }
            Ok(_) | Err(UnitError::TooBig) => {
                let (least, most) = (Millis(rule.least), Millis(rule.most));
                let message = format!("{} must be from {least} to {most}", quoted(key));
                self.error(node.at, &message, None);
            }
            Err(UnitError::NoUnit) => {
                let message = format!("{} needs a unit", quoted(key));
                let meant = duration_meant(text, rule.usual);
                let hint = format!("did you mean `{meant}`? units are ms, s, m, h, d");
                self.error(node.at, &message, Some(&hint));
            }
            Err(UnitError::UnknownUnit(unit)) => {
                let message = format!("unknown unit {} in {}", quoted(&unit), quoted(key));
                let hint = respelt(text, &unit, duration_unit_meant(&unit))
                    .unwrap_or_else(|| "units are ms, s, m, h, d".to_owned());
                self.error(node.at, &message, Some(&hint));
            }
            Err(UnitError::NotANumber) => {
                let message = format!("{} must be a duration", quoted(key));
                self.error(node.at, &message, Some("write it like `500ms`, `90s`, `10m`"));
            }
        }
        None
    }

    /// A size with its unit, at least one byte.
    pub(crate) fn size(&mut self, node: &Node, key: &str) -> Option<Spanned<Bytes>> {
        let (text, _) = self.scalar(node, key)?;
        match parse_size(text) {
            Ok(value) if value.0 > 0 => return Some(Spanned::new(value, node.at)),
            Ok(_) => {
                let message = format!("{} must be more than nothing", quoted(key));
                self.error(node.at, &message, None);
            }
            Err(UnitError::TooBig) => {
                let message = format!("{} is too large", quoted(key));
                self.error(node.at, &message, None);
            }
            Err(UnitError::NoUnit) => {
                let message = format!("{} needs a unit", quoted(key));
                let hint = format!("did you mean `{}`? units are B, KB, MB, GB, KiB, MiB, GiB", size_meant(text));
                self.error(node.at, &message, Some(&hint));
            }
            Err(UnitError::UnknownUnit(unit)) => {
                let message = format!("unknown unit {} in {}", quoted(&unit), quoted(key));
                let hint = respelt(text, &unit, size_unit_meant(&unit))
                    .unwrap_or_else(|| "units are B, KB, MB, GB, KiB, MiB, GiB".to_owned());
                self.error(node.at, &message, Some(&hint));
            }
            Err(UnitError::NotANumber) => {
                let message = format!("{} must be a size", quoted(key));
                self.error(node.at, &message, Some("write it like `60MB` or `2GiB`"));
            }
        }
        None
    }

    /// A percentage up to this many whole percent.
    pub(crate) fn percent(&mut self, node: &Node, key: &str, most: u32) -> Option<Spanned<Percent>> {
        let (text, _) = self.scalar(node, key)?;
        let value = self.percent_of(node, key, text)?;
        if value.0 <= most.saturating_mul(100) {
            return Some(Spanned::new(value, node.at));
        }
        let message = format!("{} must be from 0% to {most}%", quoted(key));
        self.error(node.at, &message, None);
        None
    }

    /// An increase such as `+20%`.
    pub(crate) fn increase(&mut self, node: &Node, key: &str) -> Option<Spanned<Percent>> {
        let (text, _) = self.scalar(node, key)?;
        let Some(amount) = text.strip_prefix('+') else {
            let message = format!("{} must be an increase over the old release", quoted(key));
            let amount = text.trim_end_matches('%');
            let hint = if whole(amount).is_some() {
                format!("did you mean `+{amount}%`?")
            } else {
                "write it like `+20%`".to_owned()
            };
            self.error(node.at, &message, Some(&hint));
            return None;
        };
        let value = self.percent_of(node, key, amount)?;
        if value.0 <= 100_000 {
            return Some(Spanned::new(value, node.at));
        }
        let message = format!("{} must be from +0% to +1000%", quoted(key));
        self.error(node.at, &message, None);
        None
    }

    /// A count, or a part of all in percent.
    pub(crate) fn quantity(&mut self, node: &Node, key: &str) -> Option<Spanned<Quantity>> {
        let (text, _) = self.scalar(node, key)?;
        if !text.ends_with('%') {
            let count = self.number(node, key, 0, 1_000)?;
            return Some(count.map(Quantity::Count));
        }
        let percent = self.percent(node, key, 100)?;
        if percent.value.0.is_multiple_of(100) {
            return Some(percent.map(|percent| Quantity::Percent(percent.0 / 100)));
        }
        let message = format!("{} must be in whole percent", quoted(key));
        self.error(node.at, &message, None);
        None
    }

    fn percent_of(&mut self, node: &Node, key: &str, text: &str) -> Option<Percent> {
        let (message, hint) = match parse_percent(text) {
            Ok(value) => return Some(value),
            Err(UnitError::NoUnit) => {
                let hint = format!("did you mean `{}`?", percent_meant(text));
                (format!("{} needs a unit", quoted(key)), Some(hint))
            }
            Err(UnitError::UnknownUnit(unit)) => {
                (format!("unknown unit {} in {}", quoted(&unit), quoted(key)), Some("the unit is %".to_owned()))
            }
            Err(UnitError::TooBig) => (format!("{} is too large", quoted(key)), None),
            Err(UnitError::NotANumber) => {
                (format!("{} must be a percentage", quoted(key)), Some("write it like `1%`".to_owned()))
            }
        };
        self.error(node.at, &message, hint.as_deref());
        None
    }
}

/// An integer of the YAML 1.2 core schema that is not negative.
fn whole(text: &str) -> Option<u64> {
    let (digits, radix) = match text.get(..2) {
        Some("0x") => (&text[2..], 16),
        Some("0o") => (&text[2..], 8),
        _ => (text.strip_prefix('+').unwrap_or(text), 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// `10` and minutes: `10m`. Thousands of seconds are rather milliseconds.
fn duration_meant(text: &str, usual: &str) -> String {
    match whole(text) {
        Some(number) if number >= 1_000 && usual == "s" => format!("{number}ms"),
        _ => format!("{text}{usual}"),
    }
}

/// Small numbers are rather MiB, large ones bytes.
fn size_meant(text: &str) -> String {
    match whole(text) {
        Some(number) if number > 65_536 => Bytes(number).to_string(),
        _ => format!("{text}MiB"),
    }
}

/// `0.01` is rather a ratio than a hundredth of a percent.
fn percent_meant(text: &str) -> String {
    match crate::units::thousandths(text) {
        Ok(part) if part > 0 && part < 1_000 => {
            let hundredths = u32::try_from(part).unwrap_or(0) * 10;
            Percent(hundredths).to_string()
        }
        _ => format!("{text}%"),
    }
}

fn respelt(text: &str, written: &str, meant: Option<&str>) -> Option<String> {
    let number = text.strip_suffix(written)?.trim_end();
    meant.map(|unit| format!("did you mean `{number}{unit}`?"))
}
