//! A terminal's screen as SVG: what `tmux capture-pane -e` gives, for the pictures in docs/pictures.

const CELL_WIDTH: usize = 8;
const LINE_HEIGHT: usize = 17;
const MARGIN: usize = 12;
const BACKGROUND: &str = "#1e1e2e";
const FOREGROUND: &str = "#dcdfe4";
/// The eight colours of ANSI, as most terminals have them on a dark ground.
const COLOURS: [&str; 8] = [
    "#45475a", "#f38ba8", "#a6e3a1", "#f9e2af", "#89b4fa", "#f5c2e7", "#94e2d5", "#dcdfe4",
];

/// How cells look from here on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Look {
    colour: Option<usize>,
    is_bold: bool,
    is_reversed: bool,
}

impl Look {
    /// The parameters of a Select Graphic Rendition sequence (ECMA-48, 8.3.117), those that `weir top` uses.
    fn apply(&mut self, parameters: &str) {
        let mut parameters = parameters
            .split(';')
            .map(|parameter| parameter.parse().unwrap_or(0));
        while let Some(parameter) = parameters.next() {
            match parameter {
                0 => *self = Self::default(),
                1 => self.is_bold = true,
                7 => self.is_reversed = true,
                22 => self.is_bold = false,
                27 => self.is_reversed = false,
                colour @ 30..=37 => self.colour = Some(colour - 30),
                // A colour out of 256, of which the first eight are ANSI's: `38;5;N`.
                38 => self.colour = parameters.nth(1).filter(|colour| *colour < COLOURS.len()),
                39 => self.colour = None,
                _ => {}
            }
        }
    }
}

/// One line in pieces that look the same.
fn pieces(line: &str, look: &mut Look) -> Vec<(Look, String)> {
    let mut pieces: Vec<(Look, String)> = Vec::new();
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic());
            let end = end.unwrap_or(sequence.len() - 1);
            if sequence[end..].starts_with('m') {
                look.apply(&sequence[..end]);
            }
            rest = &sequence[end + 1..];
            continue;
        }
        match pieces.last_mut() {
            Some((last, text)) if last == look => text.push(character),
            _ => pieces.push((*look, character.to_string())),
        }
        rest = &rest[character.len_utf8()..];
    }
    pieces
}

/// The picture of a screen of so many columns.
pub(super) fn svg(screen: &str, columns: usize, title: &str) -> String {
    let lines: Vec<&str> = screen.lines().collect();
    let width = columns * CELL_WIDTH + 2 * MARGIN;
    let height = lines.len() * LINE_HEIGHT + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace, Menlo, 'DejaVu Sans Mono', monospace\" font-size=\"13\">\n\
         <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n",
        escaped(title)
    );
    let mut look = Look::default();
    for (row, line) in lines.iter().enumerate() {
        let top = MARGIN + row * LINE_HEIGHT;
        let mut column = 0;
        for (look, text) in pieces(line, &mut look) {
            let cells = text.chars().count();
            let x = MARGIN + column * CELL_WIDTH;
            column += cells;
            let colour = look.colour.map_or(FOREGROUND, |colour| COLOURS[colour]);
            let length = cells * CELL_WIDTH;
            if look.is_reversed {
                svg += &format!(
                    "<rect x=\"{x}\" y=\"{top}\" width=\"{length}\" height=\"{LINE_HEIGHT}\" fill=\"{colour}\"/>\n"
                );
            }
            if text.trim().is_empty() {
                continue;
            }
            let fill = if look.is_reversed { BACKGROUND } else { colour };
            let weight = if look.is_bold { " font-weight=\"bold\"" } else { "" };
            // The length keeps columns in line whatever the font is.
            svg += &format!(
                "<text x=\"{x}\" y=\"{}\" textLength=\"{length}\" xml:space=\"preserve\" fill=\"{fill}\"{weight}>{}</text>\n",
                top + 13,
                escaped(&text)
            );
        }
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_and_characters_are_kept() {
        let mut look = Look::default();
        let line = pieces("a\x1b[1;38;5;1mb c\x1b[0m\x1b[7md<", &mut look);
        let red = Look {
            colour: Some(1),
            is_bold: true,
            is_reversed: false,
        };
        let reversed = Look {
            is_reversed: true,
            ..Look::default()
        };
        assert_eq!(
            line,
            [
                (Look::default(), "a".to_owned()),
                (red, "b c".to_owned()),
                (reversed, "d<".to_owned())
            ]
        );
        let picture = svg("a\n\x1b[32mb<\x1b[39m", 10, "two & lines");
        assert!(picture.contains("fill=\"#a6e3a1\">b&lt;</text>") && picture.contains("two &amp; lines"));
    }
}
