//! A line of a log as HTML: colours kept, everything else that a terminal would obey left out.
//!
//! In: a line as a program printed it. Out: escaped HTML with classes for colours. Never: a control sign, a link, an
//! attribute that the line could choose.

use maud::{Markup, PreEscaped, Render};

/// Longer lines are cut in a page; the raw log has them whole.
const SIGNS: usize = 4_000;

/// How what follows looks.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Look {
    colour: Option<u8>,
    bold: bool,
    dim: bool,
}

/// A line as HTML.
pub fn html(line: &str) -> Markup {
    // What a carriage return went over was not to be seen in the end.
    let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let (mut out, mut text, mut look) = (String::with_capacity(line.len() + 16), String::new(), Look::default());
    let mut signs = line.chars().peekable();
    let mut left = SIGNS;
    while let Some(sign) = signs.next() {
        if sign == '\u{1b}' {
            let before = look;
            escape(&mut signs, &mut look);
            if look != before {
                flush(&mut out, &mut text, before);
            }
            continue;
        }
        if sign.is_control() && sign != '\t' || is_invisible(sign) {
            continue;
        }
        if left == 0 {
            text.push('…');
            break;
        }
        left -= 1;
        text.push(sign);
    }
    flush(&mut out, &mut text, look);
    PreEscaped(out)
}

/// Signs that turn the order of what is read round, or hide it.
fn is_invisible(sign: char) -> bool {
    matches!(sign, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn flush(out: &mut String, text: &mut String, look: Look) {
    if text.is_empty() {
        return;
    }
    let mut classes = Vec::new();
    classes.extend(look.colour.map(|colour| format!("a{colour}")));
    classes.extend(look.bold.then(|| "ab".to_owned()));
    classes.extend(look.dim.then(|| "ad".to_owned()));
    if classes.is_empty() {
        text.render_to(out);
    } else {
        out.push_str("<span class=\"");
        out.push_str(&classes.join(" "));
        out.push_str("\">");
        text.render_to(out);
        out.push_str("</span>");
    }
    text.clear();
}

/// Reads one escape sequence to its end (ECMA-48 §5.4, §8.3.89); only colours have an effect.
fn escape(signs: &mut std::iter::Peekable<std::str::Chars<'_>>, look: &mut Look) {
    match signs.peek().copied() {
        Some('[') => {
            signs.next();
            let mut parameters = String::new();
            while let Some(sign) = signs.peek().copied() {
                if !sign.is_ascii() || sign.is_control() {
                    return;
                }
                signs.next();
                if ('@'..='~').contains(&sign) {
                    if sign == 'm' {
                        colour(&parameters, look);
                    }
                    return;
                }
                parameters.push(sign);
            }
        }
        // A string (title, link) ends with BEL or ESC \.
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(sign) = signs.next() {
                if sign == '\u{7}' || sign == '\u{1b}' && signs.next_if_eq(&'\\').is_some() {
                    return;
                }
            }
        }
        Some(sign) if sign.is_ascii_graphic() => {
            signs.next();
        }
        Some(_) | None => {}
    }
}

fn colour(parameters: &str, look: &mut Look) {
    let mut codes = parameters.split([';', ':']).map(|code| if code.is_empty() { Ok(0) } else { code.parse::<u16>() });
    while let Some(Ok(code)) = codes.next() {
        match code {
            0 => *look = Look::default(),
            1 => look.bold = true,
            2 => look.dim = true,
            22 => (look.bold, look.dim) = (false, false),
            30..=37 => look.colour = u8::try_from(code - 30).ok(),
            90..=97 => look.colour = u8::try_from(code - 90 + 8).ok(),
            39 => look.colour = None,
            38 | 48 => {
                let (kind, first) = (codes.next(), codes.next());
                match (kind, first) {
                    // Of 256 colours the first sixteen have names of their own.
                    (Some(Ok(5)), Some(Ok(which))) if code == 38 => {
                        look.colour = u8::try_from(which).ok().filter(|which| *which < 16)
                    }
                    (Some(Ok(2)), _) => {
                        let _ = (codes.next(), codes.next());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        assert_eq!(html(line).into_string(), expected, "{line:?}");
    }

    #[test]
    fn colours_stay_and_everything_else_that_a_terminal_obeys_goes() {
        check("\u{1b}[31;1merror\u{1b}[0m: no", "<span class=\"a1 ab\">error</span>: no");
        check("\u{1b}[38;5;9mred\u{1b}[39m \u{1b}[38;2;1;2;3mtrue", "<span class=\"a9\">red</span> true");
        check("\u{1b}]0;title\u{7}text\u{1b}[2J\u{1b}[1;1H", "text");
        check("\u{1b}]8;;javascript:alert(1)\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link");
        check("10 %\r20 %\rdone\r", "done");
        check("a\u{202e}b\u{0}c\u{8}", "abc");
    }

    #[test]
    fn what_a_line_says_never_becomes_html() {
        check("<script>alert(\"x\")</script> & more", "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more");
        check("\u{1b}[<img src=x onerror=alert(1)>m", "mg src=x onerror=alert(1)&gt;m");
        check("\u{1b}[31\" onclick=\"x", "nclick=&quot;x");
        check("\u{1b}", "");
        check("\u{1b}[", "");
        check("\u{1b}[31é", "é");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let shown = html(&"x".repeat(100_000)).into_string();
        assert!(shown.chars().count() == SIGNS + 1 && shown.ends_with('…'));
    }
}
