//! Commands that a Markdown page shows.

/// The commands of a page's code blocks that start with a program, each split into words; without comments,
/// placeholders kept.
///
/// A line may hold several commands, joined by `&&` or with `&` at its end. What is in brackets is a synopsis, and left
/// out.
pub(crate) fn commands(text: &str, program: &str) -> Vec<Vec<String>> {
    let blocks = text.split("```").skip(1).step_by(2);
    let mut found = Vec::new();
    for line in blocks.flat_map(str::lines).filter(|line| !line.contains(['[', '|'])) {
        let line = line.split(" #").next().unwrap_or_default();
        for command in line.split("&&") {
            let command = command.trim().trim_end_matches('&').trim();
            if command == program || command.starts_with(&format!("{program} ")) {
                found.push(command.split_whitespace().map(str::to_owned).skip(program.split(' ').count() - 1).collect());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_a_line_is_found_once() {
        let page = "`tool no`\n```sh\ntool a --b c   # why\ncd x && tool d && tools e &\ntool [f]\n```\ntool g\n";
        assert_eq!(commands(page, "tool"), [vec!["tool", "a", "--b", "c"], vec!["tool", "d"]]);
        assert_eq!(commands("```\ncargo tool x\n```", "cargo tool"), [["tool", "x"]]);
    }
}
