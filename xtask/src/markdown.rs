//! Tables, links and headings of Markdown documents, as far as our documents use them.
//!
//! In: the text of a document. Out: its parts with lines. Never: renders, knows what a part means.

/// A table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The cells of the first row.
    pub header: Vec<String>,
    /// Line and cells of the others.
    pub rows: Vec<(usize, Vec<String>)>,
}

impl Table {
    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|cell| cell == name)
    }
}

/// All tables of a document.
pub fn tables(text: &str) -> Vec<Table> {
    let mut found: Vec<Table> = Vec::new();
    let mut inside = false;
    for (number, line) in prose(text) {
        let Some(cells) = cells(line) else {
            inside = false;
            continue;
        };
        match found.last_mut().filter(|_| inside) {
            None => found.push(Table { header: cells, rows: Vec::new() }),
            Some(_) if cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':'))) => {}
            Some(table) => table.rows.push((number, cells)),
        }
        inside = true;
    }
    found
}

/// The lines between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; others are blank, so that numbers stay right.
pub fn between(text: &str, name: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let before = text.find(&begin)? + begin.len();
    let length = text[before..].find(&end)?;
    Some("\n".repeat(text[..before].matches('\n').count()) + &text[before..before + length])
}

/// What stands between backticks.
pub fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Line and target of every link and picture: `[…](target)`.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every second part of a line is code, where a link is none.
        let words: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in words.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors that headings make, as Git hosts make them: lower case, no punctuation, `-` for a space.
pub fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    headings
        .map(|(_, line)| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| title.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect())
        .collect()
}

/// Lines with numbers from 1, without those of fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inside = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let (mut found, mut code) = (vec![String::new()], false);
    for c in inside.chars() {
        code ^= c == '`';
        match found.last_mut() {
            Some(cell) if c != '|' || code => cell.push(c),
            _ => found.push(String::new()),
        }
    }
    Some(found.iter().map(|cell| cell.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_header_and_rows_with_lines() {
        let text = "# T\n\n| id | what |\n|---|:--|\n| R001 | `a|b` c |\n\n```\n| no | table |\n```\n";
        let found = tables(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].header, ["id", "what"]);
        assert_eq!(found[0].rows, [(5, vec!["R001".to_owned(), "`a|b` c".to_owned()])]);
    }

    #[test]
    fn links_in_code_are_no_links() {
        let text = "see [a](b.md#c) and ![p](q.png) but `[x](y)`\n```\n[n](o)\n```\n";
        assert_eq!(links(text), [(1, "b.md#c".to_owned()), (1, "q.png".to_owned())]);
    }

    #[test]
    fn headings_make_anchors() {
        assert_eq!(anchors("# The road\n## 3. What's `that`?\n"), ["the-road", "3-whats-that"]);
    }
}
