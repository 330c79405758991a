//! What is said while no instance of a service can take a request.
//!
//! In: the service, the node's notice, whether a browser asks. Out: a page, or lines of text. Never what an instance
//! has written, an address, a header of the request; everything else is escaped.

use crate::table::Notice;

/// Looks like what it is on any screen, and loads nothing.
const STYLE: &str = "body{font:1.1em/1.6 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1.5em;color:#222;background:#fff}\
small,code{color:#666}@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}small,code{color:#999}}";

/// What is known when the page is made.
pub(crate) struct Unavailable<'a> {
    /// `no instance of api in production is ready`.
    pub(crate) what: &'a str,
    pub(crate) notice: &'a Notice,
    pub(crate) request_id: &'a str,
}

impl Unavailable<'_> {
    /// Lines of text: what, since when and why, who explains it, the request.
    pub(crate) fn text(&self) -> String {
        let Notice { text, since, command } = self.notice;
        let mut lines = vec![self.what.to_owned()];
        match (since.is_empty(), text.is_empty()) {
            (false, false) => lines.push(format!("since {since}: {text}")),
            (false, true) => lines.push(format!("since {since}")),
            (true, false) => lines.push(text.clone()),
            (true, true) => {}
        }
        if !command.is_empty() {
            lines.push(format!("explained by: {command}"));
        }
        lines.push(format!("request {}", self.request_id));
        lines.join("\n") + "\n"
    }

    /// The same as a page.
    pub(crate) fn html(&self) -> String {
        let Notice { text, since, command } = self.notice;
        let paragraph = |before: &str, text: &str, after: &str| match text {
            "" => String::new(),
            text => format!("<p>{before}{}{after}</p>\n", escaped(text)),
        };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"robots\" content=\"noindex\">\n\
             <title>503 not available</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <h1>Not available right now</h1>\n{}{}{}{}<p><small>503 &middot; request {}</small></p>\n\
             </body>\n</html>\n",
            paragraph("", self.what, "."),
            paragraph("", text, "."),
            paragraph("Since ", since, "."),
            paragraph("For the people who run it: <code>", command, "</code>"),
            escaped(self.request_id),
        )
    }
}

/// Whether HTML is among what the client takes (RFC 9110 section 12.5.1). A program that takes anything gets text.
/// `head` is a request's.
pub(crate) fn takes_html(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    let ranges = fields.filter(|(name, _)| name.eq_ignore_ascii_case("accept"));
    ranges.flat_map(|(_, value)| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse::<f32>() == Ok(0.0))
        });
        !refused && (kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml"))
    })
}

/// Text as it may stand between tags and in attributes (HTML Living Standard, 13.1.4).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_html_gets_a_page_and_everybody_else_text() {
        let takes = |accept: &str| takes_html(format!("GET / HTTP/1.1\r\nAccept: {accept}\r\n").as_bytes());
        assert!(takes("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(takes("application/json, Text/HTML;q=0.5"));
        assert!(!takes("*/*"));
        assert!(!takes("application/json"));
        assert!(!takes("text/html;q=0, text/plain"));
        assert!(!takes_html(b"GET / HTTP/1.1\r\n"));
    }

    #[test]
    fn nothing_in_a_notice_becomes_a_tag() {
        let notice = Notice {
            text: "<script>alert('x')</script> & \"more\"".into(),
            since: "today".into(),
            command: "slipway why <api>".into(),
        };
        let page = Unavailable { what: "no instance of api in production is ready", notice: &notice, request_id: "1" };
        let html = page.html();
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;more&quot;"), "{html}");
        assert!(html.contains("<code>slipway why &lt;api&gt;</code>"), "{html}");
        assert!(!html.contains("<script"));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let notice = Notice::default();
        let page = Unavailable { what: "no instance of api in production is ready", notice: &notice, request_id: "1" };
        assert_eq!(page.text(), "no instance of api in production is ready\nrequest 1\n");
        assert!(!page.html().contains("Since"));
    }
}
