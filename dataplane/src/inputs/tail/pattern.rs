//! Path patterns as glob(3) reads them, walked one directory at a time.
//!
//! An own walk, because it must say which directories to watch, stop in between, and keep the text of
//! the pattern in the paths it finds: they become tags. Matching of one name is the crate `glob`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};

/// As glob(3): a leading dot is only matched by a dot.
const NAME: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: true,
};

/// As fnmatch(3) without flags: `*` crosses separators.
const WHOLE: MatchOptions = MatchOptions { require_literal_leading_dot: false, ..NAME };

/// One pattern of `path`.
#[derive(Clone, Debug)]
pub struct PathPattern {
    /// As it was written.
    text: String,
    /// What stands before the first name: `/`, `./` or nothing.
    root: String,
    parts: Vec<Part>,
}

/// One name of a pattern.
#[derive(Clone, Debug)]
struct Part {
    /// The name itself where nothing in it is wild.
    literal: Option<String>,
    pattern: Pattern,
}

impl PathPattern {
    /// Reads a pattern; `~/` becomes the home directory.
    ///
    /// # Errors
    /// A sentence that quotes the pattern and says what to write.
    pub fn parse(text: &str, home: Option<&str>) -> Result<PathPattern, String> {
        let expanded = match (text.strip_prefix('~'), home) {
            (None, _) => text.to_owned(),
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                format!("{}{rest}", home.trim_end_matches('/'))
            }
            (Some(_), _) => {
                return Err(format!("`{text}` cannot be expanded: write the whole path"));
            }
        };
        let relative = expanded.trim_start_matches('/');
        let root = &expanded[..(expanded.len() - relative.len()).min(1)];
        let parts: Vec<Part> =
            relative.split('/').filter(|name| !name.is_empty()).map(Part::new).collect();
        if parts.is_empty() {
            return Err(format!(
                "`{text}` names no file: write a pattern such as `/var/log/*.log`"
            ));
        }
        Ok(PathPattern { text: text.to_owned(), root: root.to_owned(), parts })
    }

    /// Whether a walk could find this path, or an absolute one of a file below the working directory.
    pub fn matches(&self, path: &Path) -> bool {
        let here = match self.root.is_empty() && path.is_absolute() {
            true => std::env::current_dir().ok(),
            false => None,
        };
        let path = here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
        let Some(text) = path.to_str().and_then(|text| text.strip_prefix(self.root.as_str()))
        else {
            return false;
        };
        let mut names = text.split('/');
        let all = self.parts.iter().all(|part| names.next().is_some_and(|name| part.matches(name)));
        all && names.next().is_none()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Part {
    fn new(text: &str) -> Part {
        let (pattern, is_wild) = translate(text);
        let literal = (!is_wild).then(|| unescaped(text));
        Part { literal, pattern }
    }

    fn matches(&self, name: &str) -> bool {
        match &self.literal {
            Some(literal) => literal == name,
            None => self.pattern.matches_with(name, NAME),
        }
    }
}

fn unescaped(text: &str) -> String {
    let mut letters = text.chars();
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        out.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    out
}

/// From POSIX spelling to the crate's, and whether anything in it is wild: `\x` is a literal, `[^` negates, and
/// several stars are one (the crate would take them for any number of directories).
fn translate(text: &str) -> (Pattern, bool) {
    let mut out = String::new();
    let mut is_wild = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        is_wild |= matches!(letter, '*' | '?' | '[');
        match letter {
            '\\' => {
                let literal = letters.next().unwrap_or('\\');
                out += &Pattern::escape(literal.encode_utf8(&mut [0; 4]));
            }
            '*' if out.ends_with('*') => {}
            '[' => {
                out.push('[');
                if letters.next_if_eq(&'^').is_some() {
                    out.push('!');
                }
            }
            _ => out.push(letter),
        }
    }
    match Pattern::new(&out) {
        Ok(pattern) => (pattern, is_wild),
        // A bracket that is never closed stands for itself.
        Err(_) => {
            let plain = Pattern::escape(text);
            (Pattern::new(&plain).unwrap_or_default(), false)
        }
    }
}

/// The patterns of `exclude_path`; they see the whole path.
#[derive(Clone, Debug, Default)]
pub struct Exclusions(Vec<Pattern>);

impl Exclusions {
    /// Reads the patterns.
    pub fn parse(patterns: &[String]) -> Exclusions {
        Exclusions(patterns.iter().map(|text| translate(text).0).collect())
    }

    /// Whether a path is to be left alone.
    pub fn contains(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        self.0.iter().any(|pattern| pattern.matches_with(&text, WHOLE))
    }
}

/// A directory in which a name that appears may matter.
#[derive(Clone, Debug)]
pub struct Spot {
    /// Where.
    pub directory: PathBuf,
    part: Part,
    place: Place,
}

/// Where in its pattern a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Last,
    Inner,
}

/// What a name that appeared means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appearance {
    /// Nothing.
    Foreign,
    /// Perhaps a file to tail.
    File(PathBuf),
    /// A directory on the way to files.
    Directory,
}

impl Spot {
    /// What a name that appeared here means.
    pub fn judge(&self, name: &[u8]) -> Appearance {
        let name = String::from_utf8_lossy(name);
        match (self.part.matches(&name), self.place) {
            (false, _) => Appearance::Foreign,
            (true, Place::Last) => Appearance::File(self.directory.join(name.as_ref())),
            (true, Place::Inner) => Appearance::Directory,
        }
    }
}

/// A walk over some patterns, in steps.
#[derive(Debug)]
pub struct Walk {
    patterns: Arc<[PathPattern]>,
    next_pattern: usize,
    levels: Vec<Level>,
    spots: Vec<Spot>,
}

/// The names of one directory that match their part.
#[derive(Debug)]
struct Level {
    directory: PathBuf,
    names: std::vec::IntoIter<String>,
    pattern: usize,
    /// Index of the part after theirs.
    next_part: usize,
}

impl Walk {
    /// Starts a walk.
    pub fn new(patterns: &Arc<[PathPattern]>) -> Walk {
        let patterns = Arc::clone(patterns);
        Walk { patterns, next_pattern: 0, levels: Vec::new(), spots: Vec::new() }
    }

    /// Index of the pattern that gave the last path.
    pub fn pattern_index(&self) -> usize {
        self.next_pattern.saturating_sub(1)
    }

    /// The directories that were seen, once for each part that is looked for in them.
    pub fn into_spots(self) -> Vec<Spot> {
        self.spots
    }

    fn enter(&mut self, directory: PathBuf, pattern: usize, part_index: usize) {
        let parts = &self.patterns[pattern].parts;
        let part = &parts[part_index];
        let place = if part_index + 1 == parts.len() { Place::Last } else { Place::Inner };
        let names = match &part.literal {
            Some(name) => vec![name.clone()],
            None => names_in(&directory, part),
        };
        let is_way_clear = match &part.literal {
            Some(name) if place == Place::Inner => directory.join(name).is_dir(),
            _ => false,
        };
        if !is_way_clear {
            // On a way that exists the next directory is the one to watch.
            self.spots.push(Spot { directory: directory.clone(), part: part.clone(), place });
        }
        let names = names.into_iter();
        self.levels.push(Level { directory, names, pattern, next_part: part_index + 1 });
    }
}

impl Iterator for Walk {
    type Item = PathBuf;

    /// The next path that matches; it need not exist, nor be a file.
    fn next(&mut self) -> Option<PathBuf> {
        loop {
            let Some(level) = self.levels.last_mut() else {
                let root = self.patterns.get(self.next_pattern)?.root.clone();
                self.next_pattern += 1;
                self.enter(PathBuf::from(root), self.next_pattern - 1, 0);
                continue;
            };
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let (path, pattern, part) =
                (level.directory.join(name), level.pattern, level.next_part);
            if part == self.patterns[pattern].parts.len() {
                return Some(path);
            }
            if path.is_dir() {
                self.enter(path, pattern, part);
            }
        }
    }
}

/// Names that match, in order. A directory that cannot be read has none, as in glob(3).
fn names_in(directory: &Path, part: &Part) -> Vec<String> {
    let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| part.matches(name)).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path, patterns: &[&str]) -> (Vec<String>, Vec<String>) {
        let base = folder.to_str().unwrap();
        let patterns: Arc<[_]> = patterns
            .iter()
            .map(|text| PathPattern::parse(&format!("{base}/{text}"), None).unwrap())
            .collect();
        let mut walk = Walk::new(&patterns);
        let cut = |path: &Path| path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
        let paths: Vec<_> = walk.by_ref().map(|path| cut(&path)).collect();
        for path in &paths {
            let whole = folder.join(path);
            assert!(patterns.iter().any(|pattern| pattern.matches(&whole)), "{path}");
        }
        let spots = walk.into_spots();
        (paths, spots.iter().map(|spot| cut(&spot.directory)).collect())
    }

    #[test]
    fn a_walk_finds_what_glob_finds_and_says_where_it_looked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x/1.log", "x/2.log", "x/2.txt", "x/.3.log", "y/deep/1.log", "y/5.log", "z"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let find = |patterns: &[&str]| found(folder.path(), patterns);
        let both = |paths: &[&str], spots: &[&str]| {
            let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            (own(paths), own(spots))
        };
        assert_eq!(find(&["x/*.log"]), both(&["x/1.log", "x/2.log"], &["x"]));
        assert_eq!(find(&["*/*.log"]), both(&["x/1.log", "x/2.log", "y/5.log"], &["", "x", "y"]));
        assert_eq!(find(&["**/5.log"]), both(&["x/5.log", "y/5.log"], &["", "x", "y"]));
        assert_eq!(find(&["x/[^1].log"]), both(&["x/2.log"], &["x"]));
        assert_eq!(find(&["x/.*.log", "z"]), both(&["x/.3.log", "z"], &["x", ""]));
        assert_eq!(find(&["none/a/*.log"]), both(&[], &[""]));
        assert_eq!(find(&["x/\\*.log"]), both(&["x/*.log"], &["x"]));
    }

    #[test]
    fn a_name_that_appears_is_judged_by_its_part() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{}/pods/*/x.log", folder.path().display());
        let pattern = Arc::from([PathPattern::parse(&text, None).unwrap()]);
        let mut walk = Walk::new(&pattern);
        assert_eq!(walk.next(), None);
        let spot = walk.into_spots().remove(0);
        assert_eq!(spot.judge(b"pods"), Appearance::Directory);
        assert_eq!(spot.judge(b"other"), Appearance::Foreign);
        std::fs::create_dir_all(folder.path().join("pods/a")).unwrap();
        let mut walk = Walk::new(&pattern);
        let file = folder.path().join("pods/a/x.log");
        assert_eq!(walk.by_ref().collect::<Vec<_>>(), std::slice::from_ref(&file));
        let spots = walk.into_spots();
        assert_eq!(spots[1].judge(b"x.log"), Appearance::File(file));
        assert_eq!(spots[0].judge(b"b"), Appearance::Directory);
    }

    #[test]
    fn exclusions_cross_separators_and_home_is_expanded() {
        let exclude = Exclusions::parse(&["*.gz".into(), "/var/log/[ab]*".into()]);
        for (path, is_out) in
            [("/x/y.gz", true), ("/var/log/a/b", true), ("/var/log/c", false), ("/x/y.gz1", false)]
        {
            assert_eq!(exclude.contains(Path::new(path)), is_out, "{path}");
        }
        let home = PathPattern::parse("~/a.log", Some("/home/me/")).unwrap();
        assert!(home.matches(Path::new("/home/me/a.log")));
        assert!(PathPattern::parse("~me/a.log", Some("/home/me")).is_err());
        assert!(PathPattern::parse("/", None).is_err());
        let relative = PathPattern::parse("logs/*.log", None).unwrap();
        assert!(relative.matches(&std::env::current_dir().unwrap().join("logs/a.log")));
        assert!(!relative.matches(Path::new("/logs/a.log")));
        assert!(PathPattern::parse("logs/a[", None).unwrap().matches(Path::new("logs/a[")));
    }
}
