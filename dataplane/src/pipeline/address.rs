//! `name://host:port/uri` as the name of a plugin: the address becomes properties.

use config::{Document, Property, Section};

/// Takes addresses out of the names of inputs and outputs.
pub fn split_names(document: &mut Document) {
    for section in &mut document.inputs {
        split(section, "listen");
    }
    for section in &mut document.outputs {
        split(section, "host");
    }
}

fn split(section: &mut Section, host_key: &str) {
    let Some(index) = section.properties.iter().position(|property| property.is("name")) else {
        return;
    };
    let whole = section.properties[index].clone();
    let Some((name, address)) = whole.value.split_once("://") else { return };
    let (place, uri) = match address.find('/') {
        Some(at) => (&address[..at], Some(&address[at..]).filter(|uri| *uri != "/")),
        None => (address, None),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    section.properties[index].value = name.to_owned();
    for (key, value) in [(host_key, Some(host)), ("port", port), ("uri", uri)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let (key, value) = (key.to_owned(), value.to_owned());
            section.properties.push(Property { key, value, ..whole.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_properties() {
        let table: [(&str, &[(&str, &str)]); 5] = [
            ("tcp", &[("name", "tcp")]),
            ("tcp://127.0.0.1:99", &[("name", "tcp"), ("listen", "127.0.0.1"), ("port", "99")]),
            ("tcp://:99/", &[("name", "tcp"), ("port", "99")]),
            ("tcp://[::1]:9", &[("name", "tcp"), ("listen", "::1"), ("port", "9")]),
            ("http://h/a/b", &[("name", "http"), ("listen", "h"), ("uri", "/a/b")]),
        ];
        for (name, expected) in table {
            let mut document = Document::empty();
            let span = document.service.span;
            let mut section = Section::new("input", span);
            let (key, value) = ("name".to_owned(), name.to_owned());
            section.properties.push(Property { key, value, key_span: span, value_span: span });
            document.inputs.push(section);
            split_names(&mut document);
            let properties = &document.inputs[0].properties;
            let pairs: Vec<_> =
                properties.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
            assert_eq!(pairs, expected, "{name}");
        }
    }
}
