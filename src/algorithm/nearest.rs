//! The name that was probably meant: nearest of those that exist.

/// The longest name that is compared, for the comparison is quadratic in the length.
const MAX_COMPARED: usize = 64;
/// How many names are compared for one question, or for one file: a file can have thousands of wrong names and as many
/// right ones.
pub(crate) const MAX_COMPARISONS: usize = 100_000;

/// The candidate that `name` was most likely meant to be: at most one edit in three letters away, a swap of
/// neighbours being one edit.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_within(name, candidates, &mut { MAX_COMPARISONS })
}

/// The same, with every comparison taken off `left`.
pub(crate) fn nearest_within<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    left: &mut usize,
) -> Option<&'a str> {
    if name.len() > MAX_COMPARED {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        *left = left.checked_sub(1)?;
        if candidate.len() > MAX_COMPARED {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&name, &candidate.to_ascii_lowercase());
        let near = distance <= name.len().max(candidate.len()) / 3 && distance <= 3;
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}
