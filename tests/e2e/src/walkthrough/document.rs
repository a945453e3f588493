//! Reading the blocks out of a document.

/// A block of a document that means something to the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    /// What to do with it.
    pub kind: BlockKind,
}

/// What to do with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockKind {
    /// Commands to type.
    Console(Vec<Command>),
    /// A file to write.
    File {
        /// Its name.
        name: String,
        /// Its text.
        text: String,
    },
    /// Left out, for this reason.
    Skipped(String),
}

/// A command and what it must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its line in the document, from 1.
    pub line: usize,
    /// What is typed; may have several lines.
    pub text: String,
    /// The lines it is shown to print; empty where they are not compared.
    pub shown: Vec<String>,
    /// The exit code it must end with.
    pub code: i32,
}

/// The languages that look like something to type.
const SHELLS: [&str; 5] = ["sh", "bash", "shell", "zsh", "console"];

/// Reads the blocks of a document in order; blocks of other languages without a directive are prose.
///
/// # Errors
///
/// Names the line of a block that never ends, of a shell block that is no `console` block and so
/// would not be followed, and of a directive that is not understood.
pub fn blocks(document: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut directives: Vec<(usize, String)> = Vec::new();
    let mut lines = document.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        if let Some(inner) = trimmed.strip_prefix("<!--").and_then(|l| l.strip_suffix("-->")) {
            directives.push((number, inner.trim().to_owned()));
        } else if let Some(language) = trimmed.strip_prefix("```") {
            let mut body = Vec::new();
            loop {
                match lines.next() {
                    Some((_, line)) if line.trim() == "```" => break,
                    Some(numbered) => body.push(numbered),
                    None => return Err(format!("line {number}: the block never ends")),
                }
            }
            let kind = kind_of(number, language.trim(), &std::mem::take(&mut directives), &body)?;
            blocks.extend(kind.map(|kind| Block { line: number, kind }));
        } else if !trimmed.is_empty() {
            directives.clear();
        }
    }
    Ok(blocks)
}

fn kind_of(
    number: usize,
    language: &str,
    directives: &[(usize, String)],
    body: &[(usize, &str)],
) -> Result<Option<BlockKind>, String> {
    let mut code = 0;
    let mut compared = true;
    for (line, directive) in directives {
        let walk = if let Some(name) = directive.strip_prefix("file:") {
            let text = body.iter().map(|(_, line)| format!("{line}\n")).collect();
            return Ok(Some(BlockKind::File { name: name.trim().to_owned(), text }));
        } else if let Some(walk) = directive.strip_prefix("walk:") {
            walk.trim()
        } else {
            continue;
        };
        if let Some(reason) = walk.strip_prefix("skip,") {
            return Ok(Some(BlockKind::Skipped(reason.trim().to_owned())));
        } else if let Some(number) = walk.strip_prefix("exit ") {
            let rule = |_| format!("line {line}: `{number}` is no exit code");
            code = number.trim().parse().map_err(rule)?;
        } else if walk == "output varies" {
            compared = false;
        } else {
            return Err(format!("line {line}: `walk: {walk}` is not understood"));
        }
    }
    if language != "console" {
        return if SHELLS.contains(&language) {
            Err(format!("line {number}: a {language} block is not followed: make it `console`"))
        } else {
            Ok(None)
        };
    }
    let mut commands = commands(body)?;
    for command in &mut commands {
        command.code = code;
        if !compared {
            command.shown.clear();
        }
    }
    Ok(Some(BlockKind::Console(commands)))
}

fn commands(body: &[(usize, &str)]) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    // The word that ends a here-document, while in one.
    let mut until: Option<String> = None;
    let mut continued = false;
    for (number, line) in body {
        if let Some(text) = line.strip_prefix("$ ").filter(|_| until.is_none() && !continued) {
            commands.push(Command {
                line: *number,
                text: text.to_owned(),
                shown: Vec::new(),
                code: 0,
            });
        } else {
            let Some(command) = commands.last_mut() else {
                return Err(format!("line {number}: output before the first command"));
            };
            let typed = line.strip_prefix("> ").filter(|_| command.shown.is_empty());
            if until.is_some() || continued || typed.is_some() {
                command.text.push('\n');
                command.text.push_str(typed.unwrap_or(line));
            } else {
                command.shown.push((*line).to_owned());
                continue;
            }
        }
        let typed = commands.last().and_then(|command| command.text.lines().last()).unwrap_or("");
        if until.as_deref() == Some(typed.trim()) {
            until = None;
        } else if until.is_none() {
            until = here_document(typed);
            let whole = commands.last().is_some_and(|command| quotes_are_closed(&command.text));
            continued = until.is_none() && (typed.ends_with('\\') || !whole);
        }
    }
    Ok(commands)
}

/// Whether every quote of a command is closed; otherwise the shell waits for more.
fn quotes_are_closed(text: &str) -> bool {
    let mut open = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match open {
            // A comment goes on to the end of its line; an apostrophe in it opens nothing.
            None if c == '#' => drop(chars.by_ref().find(|c| *c == '\n')),
            None if c == '\'' || c == '"' => open = Some(c),
            _ if c == '\\' && open != Some('\'') => drop(chars.next()),
            Some(quote) if c == quote => open = None,
            _ => {}
        }
    }
    open.is_none()
}

/// The word that ends the here-document this line starts.
fn here_document(line: &str) -> Option<String> {
    let (_, word) = line.split_once("<<")?;
    let word = word.trim_start_matches('-').split_whitespace().next()?;
    Some(word.trim_matches(['\'', '"']).to_owned())
}

/// Whether every shown line stands in the output, in order. A line of `…` alone stands for any
/// number of lines.
///
/// # Errors
///
/// Gives the first shown line that was not printed.
pub fn mentions(output: &str, shown: &[String]) -> Result<(), String> {
    let mut printed = output.lines().map(dense);
    for line in shown {
        let wanted = dense(line).replace("...", "…");
        let pieces: Vec<&str> = wanted.split('…').map(str::trim).collect();
        if pieces.iter().all(|piece| piece.is_empty()) {
            continue;
        }
        if !printed.any(|printed| fits(&printed, &pieces)) {
            return Err(line.clone());
        }
    }
    Ok(())
}

/// Whether a line starts with the first piece, ends with the last, and has the others in between.
fn fits(line: &str, pieces: &[&str]) -> bool {
    let [first, middle @ .., last] = pieces else {
        return pieces.first().is_some_and(|only| line == *only);
    };
    let Some(rest) = line.strip_prefix(first) else { return false };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    for piece in middle {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    true
}

/// The line with each run of spaces as one, since tables pad their columns.
fn dense(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
