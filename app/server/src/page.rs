//! The frame of every page: one small stylesheet with named tokens, dark and light by preference, no scripts needed.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "
:root{--paper:#fbfaf8;--ink:#1d1b18;--soft:#6b665e;--line:#ddd8cf;--card:#fff;--good:#1a7f37;--bad:#c2261c;--wait:#8a5a00;--link:#0b57b0}
@media (prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#ecebe7;--soft:#a39f96;--line:#33373d;--card:#1e2125;--good:#4cc36b;--bad:#ff7b70;--wait:#e2b14a;--link:#8cbcff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:1.25rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.35rem;margin:.2rem 0}h2{font-size:1rem;margin:1.6rem 0 .5rem;color:var(--soft);font-weight:600}
a{color:var(--link)}a:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
code,pre{font:13px/1.5 ui-monospace,monospace}pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.7rem;overflow-x:auto;white-space:pre-wrap}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:500}
.road{display:flex;flex-wrap:wrap;gap:.5rem;list-style:none;padding:0;margin:.8rem 0}
.road li{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--soft);border-radius:6px;padding:.45rem .7rem;min-width:9rem;flex:1}
.road b{display:block;font-size:.95rem}.road span{color:var(--soft);font-size:.85rem}
.good{color:var(--good)}.bad{color:var(--bad)}.wait{color:var(--wait)}.soft{color:var(--soft)}
li.good{border-left-color:var(--good)}li.bad{border-left-color:var(--bad)}li.wait{border-left-color:var(--wait)}li.good,li.bad,li.wait{color:var(--ink)}
.verdict{font-size:1.05rem;margin:.4rem 0 1rem}.card{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;margin:.5rem 0}
@media (max-width:40rem){.road{flex-direction:column}td,th{display:block;border:0;padding:.1rem 0}tr{display:block;border-bottom:1px solid var(--line);padding:.4rem 0}thead{display:none}}
";

/// A page.
pub fn page(title: &str, refresh: bool, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if refresh { meta http-equiv="refresh" content="2"; }
                title { (title) " · Slipway" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                nav aria-label="home" { a href="/" { "Slipway" } }
                main { (body) }
            }
        }
    }
}

/// A mark that says a state by sign, word and colour together.
pub fn mark(word: &str) -> Markup {
    let (sign, class) = sign(word);
    html! { span class=(class) { (sign) " " (word) } }
}

/// Sign and colour class of a state's word.
pub fn sign(word: &str) -> (&'static str, &'static str) {
    match word {
        "passed" | "live" | "succeeded" | "baking" | "built" | "reused" | "not-affected" | "ready" => ("✓", "good"),
        "failed" | "rolled-back" | "needs-human" | "timed-out" | "lost" | "failed-before" | "refused" | "dropped" => {
            ("✕", "bad")
        }
        "waiting" | "open" => ("◷", "wait"),
        "cancelled" | "skipped" | "empty" | "was live" => ("–", "soft"),
        _ => ("●", "soft"),
    }
}
