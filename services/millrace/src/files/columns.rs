//! Which column of a file belongs to which field of a stream.

use millrace_catalog::Stream;

use super::error::ReadError;

/// Names more similar than this are suggested; 1 is equal.
const SIMILAR: f64 = 0.8;

/// Gives, for each field of the stream in order, the index of its column.
///
/// # Errors
/// [`ReadError::MissingColumns`] with every missing one, [`ReadError::DuplicateColumn`].
pub(crate) fn match_columns(
    input: &str,
    stream: &Stream,
    names: &[String],
) -> Result<Vec<usize>, ReadError> {
    let mut indexes = Vec::with_capacity(stream.fields.len());
    let mut missing = Vec::new();
    for field in &stream.fields {
        let mut places = names.iter().enumerate().filter(|(_, n)| **n == field.name);
        match (places.next(), places.next()) {
            (Some((index, _)), None) => indexes.push(index),
            (Some((_, column)), Some(_)) => {
                let (input, column) = (input.to_owned(), column.clone());
                return Err(ReadError::DuplicateColumn { input, column });
            }
            (None, _) => missing.push((field.name.clone(), similar(&field.name, stream, names))),
        }
    }
    if missing.is_empty() {
        return Ok(indexes);
    }
    Err(ReadError::MissingColumns {
        input: input.to_owned(),
        stream: stream.name.clone(),
        missing,
        found: names.to_vec(),
    })
}

/// The most similar column that no field of the stream has.
fn similar(name: &str, stream: &Stream, names: &[String]) -> Option<String> {
    let folded = name.to_lowercase();
    names
        .iter()
        .filter(|n| stream.field(n).is_none())
        .map(|n| (strsim::jaro_winkler(&folded, &n.trim().to_lowercase()), n))
        .filter(|(score, _)| *score >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, n)| n.clone())
}
