//! Words for people about images.

use slipway_model::fact::ImageBuilt;

/// An image in one line: `guestbook/api:1f3c9ab-482  11.2 MB (-0.3)`.
#[must_use]
pub fn line(image: &ImageBuilt) -> String {
    let grew = match image.grew_bytes {
        Some(grew) if grew != 0 => format!(" ({}{})", if grew > 0 { "+" } else { "-" }, megabytes(grew.unsigned_abs())),
        _ => String::new(),
    };
    format!("{}  {} MB{grew}", image.reference, megabytes(image.size_bytes))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}
