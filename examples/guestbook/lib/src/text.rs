//! Text from outside, made safe for a page, and text out of a form.
//!
//! In and out: strings. Never: an error; what cannot be decoded stays as it is.

/// Escapes text for HTML, also inside quoted attributes.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// The fields of a query or of a form (`application/x-www-form-urlencoded`).
pub fn form(encoded: &str) -> Vec<(String, String)> {
    let pairs = encoded.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(name), percent_decoded(value))
        })
        .collect()
}

/// The first field of that name.
pub fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', _, _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        let escaped = html(r#"<b title="x" lang='y'>&"#);
        assert_eq!(escaped, "&lt;b title=&quot;x&quot; lang=&#39;y&#39;&gt;&amp;");
    }

    #[test]
    fn forms_are_decoded_and_nonsense_stays_as_it_is() {
        let fields = form("name=Ada+L&text=1%2B1%3D2&&bad=%zz%4&alone");
        assert_eq!(field(&fields, "name"), Some("Ada L"));
        assert_eq!(field(&fields, "text"), Some("1+1=2"));
        assert_eq!(field(&fields, "bad"), Some("%zz%4"));
        assert_eq!(field(&fields, "alone"), Some(""));
        assert_eq!(field(&fields, "absent"), None);
    }
}
