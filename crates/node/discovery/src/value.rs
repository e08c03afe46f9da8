//! What Kubernetes takes as a label's value: at most 63 characters of `A-Za-z0-9-_.`, the first and
//! the last a letter or a digit.

/// The longest value of a label.
pub(crate) const MAX_LEN: usize = 63;

/// Makes a label's value of a text: `+` becomes `.` as in resource names, runs of white space become
/// `-`, other characters that no label has are dropped, and what is too long is cut.
pub(crate) fn sanitise(text: &str) -> String {
    bounded(&clean(text), MAX_LEN).to_owned()
}

/// As [`sanitise`] for a text with an ending that must not be cut off, such as the MIG profile of a
/// product.
pub(crate) fn with_suffix(text: &str, suffix: &str) -> String {
    let suffix = clean(suffix);
    let room = MAX_LEN.saturating_sub(suffix.len() + 1);
    match bounded(&clean(text), room) {
        "" => bounded(&suffix, MAX_LEN).to_owned(),
        text => bounded(&format!("{text}-{suffix}"), MAX_LEN).to_owned(),
    }
}

fn clean(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        word.chars()
            .map(|c| if c == '+' { '.' } else { c })
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .collect::<String>()
    });
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// The text, which is ASCII, without what can't stand at either end, and no longer than allowed.
fn bounded(text: &str, len: usize) -> &str {
    let text = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let text = text.get(..len.min(text.len())).unwrap_or_default();
    text.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_label_value(text: &str) -> bool {
        let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
        text.len() <= 63
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && ends(text.chars().next())
            && ends(text.chars().last())
    }

    #[test]
    fn white_space_becomes_one_dash_and_strange_characters_go() {
        assert_eq!(sanitise("NVIDIA A100-SXM4-40GB"), "NVIDIA-A100-SXM4-40GB");
        assert_eq!(sanitise("  Acme\t (R) Blade  3000!\n"), "Acme-R-Blade-3000");
        assert_eq!(sanitise("1g.5gb+me"), "1g.5gb.me");
        assert_eq!(sanitise("-.-"), "");
        assert_eq!(sanitise("Überrechner & Söhne"), "berrechner-Shne");
    }

    #[test]
    fn an_ending_survives_the_cut() {
        let product = with_suffix(&"Board ".repeat(30), "MIG-1c.3g.20gb.me");
        assert_eq!(product.len(), 63);
        assert!(product.ends_with("-MIG-1c.3g.20gb.me"), "{product}");
    }

    proptest! {
        #[test]
        fn every_text_becomes_a_label_value(text in ".{0,200}", suffix in "[ -~]{0,80}") {
            let (plain, ended) = (sanitise(&text), with_suffix(&text, &suffix));
            prop_assert!(is_label_value(&plain), "{plain:?}");
            prop_assert!(is_label_value(&ended), "{ended:?}");
        }
    }
}
