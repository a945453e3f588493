//! What of a stream must stay as it was, so that stored facts can be read (design §5).

use millrace_types::FieldType;

use super::kinds::Kinds;
use super::streams::Draft;
use super::{reader, report_removed};
use crate::diagnostic::{Pos, Rule, Sink};
use crate::model::{Field, Stream, TimeUnit};
use crate::render;
use crate::yaml::Entry;

/// Why a role never changes, and the way out.
const HELP: &str = "what stored facts were read by never changes; add a stream of another name";

/// Reports every change that stored facts do not allow. `retracts` is kept too: whether ids that
/// left are remembered depends on it.
pub(super) fn check(draft: &mut Draft, old: &Stream, kinds: &Kinds, path: &str, sink: &mut Sink) {
    let kind_name = |id| kinds.name(id).to_owned();
    for (role, was, is) in render::roles(old, &kind_name)
        .into_iter()
        .zip(render::roles(&draft.stream, &kind_name))
        .map(|((role, was), (_, is))| (role, was, is))
    {
        let known = match role {
            "kind" => draft.kind_known,
            "keys" => draft.keys_known,
            other => !draft.broken.contains(&other),
        };
        if known && was != is {
            let at = draft.roles.iter().find(|(r, _)| *r == role).map_or(draft.at, |(_, at)| *at);
            let path = reader::join(path, role);
            let message = format!("`{role}` changes from {was} to {is}");
            sink.report(at, Rule::Changed, &path, message).help(HELP);
            // Whatever rests on it would only echo this.
            match role {
                "kind" => draft.kind_known = false,
                "keys" => draft.keys_known = false,
                _ => {}
            }
        }
    }
}

/// Reports a field whose type is not the one it had; true when it is.
pub(super) fn check_type(
    old: &Field,
    new: Option<(FieldType, TimeUnit)>,
    at: Pos,
    path: &str,
    sink: &mut Sink,
) -> bool {
    let Some((ty, unit)) = new else { return false };
    let new = Field { name: old.name.clone(), ty, unit };
    let same = new == *old;
    if !same {
        let (was, is) = (render::field_type(old), render::field_type(&new));
        let message = format!("the type of `{}` changes from {was} to {is}", old.name);
        sink.report(at, Rule::Changed, path, message).help("add a field of another name");
    }
    same
}

/// Reports fields that are missing.
pub(super) fn check_fields(old: &Stream, new: &[Entry], at: Pos, path: &str, sink: &mut Sink) {
    for field in &old.fields {
        if !new.iter().any(|e| e.key == field.name) {
            report_removed(sink, at, path, "the field", &field.name);
        }
    }
}
