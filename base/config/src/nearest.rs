//! In: a word and the words that are known. Out: the known word that was
//! probably meant. Never guesses when nothing is near.

/// Words beyond this length are not compared.
const WORD_MAX: usize = 40;

/// The nearest candidate within a third of the word's length, at most 3 edits
/// (optimal string alignment distance; case, `-` and `_` do not count).
pub(crate) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let wanted = folded(word);
    if wanted.is_empty() || wanted.len() > WORD_MAX {
        return None;
    }
    let limit = (wanted.len() / 3).clamp(1, 3);
    candidates
        .iter()
        .map(|candidate| (distance(&wanted, &folded(candidate)), *candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The hint for an unknown word: the nearest one, else all that are known.
pub(crate) fn hint(word: &str, candidates: &[&str]) -> Option<String> {
    if let Some(found) = nearest(word, candidates) {
        return Some(format!("did you mean `{found}`?"));
    }
    if candidates.is_empty() {
        return None;
    }
    let shown = &candidates[..candidates.len().min(24)];
    let more = if candidates.len() > shown.len() { ", …" } else { "" };
    Some(format!("known here: {}{more}", crate::problem::quoted_list(shown)))
}

fn folded(word: &str) -> Vec<char> {
    word.chars().take(WORD_MAX + 1).flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c }).collect()
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + cost);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
