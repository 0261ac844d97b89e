use proptest::prelude::*;

use super::*;

/// The families of a file, what was odd in it, or why it is refused.
fn read(text: &str) -> Result<(Vec<Family>, Vec<String>), Refusal> {
    let mut odd = Vec::new();
    let (families, _) = parse(text.as_bytes(), 1000, &mut |line, what| odd.push(format!("{line}: {what}")))?;
    Ok((families, odd))
}

fn only(text: &str) -> Family {
    let (mut families, odd) = read(text).unwrap();
    assert_eq!((families.len(), &odd), (1, &Vec::new()), "{families:?}");
    families.remove(0)
}

#[test]
fn a_family_with_everything() {
    let family = only(
        "# A comment.\n#\n# EOF\n#HELP a_total Says \\\\ and \\n and \\\" and \"x\".\n \t# TYPE  a_total\tcounter \n\n\
         a_total{x=\"1\\\\\\\"\\n\", y = \"2\",} +12\t\n  a_total { } 1.5e3\n{\"a_total\",x=\"ü\"} 18446744073709551615\n",
    );
    assert_eq!((family.name.as_str(), family.kind), ("a_total", Kind::Counter));
    assert_eq!(family.help.as_deref(), Some("Says \\ and \n and \" and \"x\"."));
    let labels: Vec<Vec<(&str, &str)>> =
        family.metrics.iter().map(|metric| metric.labels.iter().map(|(label, value)| (&**label, &**value)).collect()).collect();
    assert_eq!(labels, [vec![("x", "1\\\"\n"), ("y", "2")], vec![], vec![("x", "ü")]]);
    let values: Vec<String> = family.metrics.iter().map(|metric| format!("{:?}", metric.body)).collect();
    assert_eq!(values, ["One(Unsigned(12))", "One(Float(1500.0))", "One(Unsigned(18446744073709551615))"]);
    assert_eq!(family.metrics[2].line, 9);
}

#[test]
fn what_is_said_of_nothing_is_nothing() {
    let family = only("# HELP a \n# TYPE a\n# HELP\n# TYPE b gauge\na 1\n# HELP a After its samples.\n");
    assert_eq!((family.name.as_str(), family.kind, family.help.as_deref()), ("a", Kind::Untyped, Some("After its samples.")));
    assert_eq!(read("").unwrap().0.len(), 0);
    assert_eq!(read("\n \n\t").err().map(|refusal| refusal.what), None);
}

#[test]
fn numbers_are_go_s() {
    let written = |text: &str| value(text).map(|value| format!("{value:?}"));
    for (text, value) in [
        ("1", "Unsigned(1)"),
        ("-1", "Signed(-1)"),
        ("-0", "Float(-0.0)"),
        ("1.", "Float(1.0)"),
        (".5", "Float(0.5)"),
        ("1E-3", "Float(0.001)"),
        ("1.492355615e+09", "Float(1492355615.0)"),
        ("+Inf", "Float(inf)"),
        ("-inf", "Float(-inf)"),
        ("Infinity", "Float(inf)"),
        ("NaN", "Float(NaN)"),
        ("nan", "Float(NaN)"),
        ("18446744073709551616", "Float(1.8446744073709552e19)"),
    ] {
        assert_eq!(written(text).as_deref(), Some(value), "{text}");
    }
    for text in ["", "1_000", "0x10", "1p3", "one", "1,5", "1e999", "-1e999", "+NaN", "-nan", "1\r", "--1", "e5"] {
        assert_eq!(written(text), None, "{text}");
    }
    assert_eq!(count(Value::Float(1_412_839.0)), Some(1_412_839));
    assert_eq!((count(Value::Float(0.5)), count(Value::Float(-1.0)), count(Value::Float(f64::NAN))), (None, None, None));
}

#[test]
fn a_refusal_names_the_line_and_what() {
    for (text, line, what) in [
        ("a 1 1441205977284\nb 2\n", 1, "a has a timestamp"),
        ("a 1\nb 2", 2, "no line feed at its end"),
        ("a 1\r\n", 1, "carriage return"),
        ("a\n", 1, "a has no value"),
        ("a one\n", 1, "\"one\" is no number"),
        ("a 1 # {x=\"1\"} 2\n", 1, "stands \"# {"),
        ("a 1 2 3\n", 1, "stands \"2 3\""),
        ("\na{x=\"1} 1\n", 2, "not closed"),
        ("a{x=1} 1\n", 1, "a quote is missing"),
        ("a{x} 1\n", 1, "no '='"),
        ("a{x=\"1\" y=\"2\"} 1\n", 1, "neither ','"),
        ("a{x=\"1\",x=\"2\"} 1\n", 1, "stands twice"),
        ("a{x=\"\\t\"} 1\n", 1, "a backslash before \"t\""),
        ("a{__name__=\"b\"} 1\n", 1, "Prometheus' own"),
        ("a{x:y=\"b\"} 1\n", 1, "no name of a label"),
        ("a{=\"b\"} 1\n", 1, "no name of a label"),
        ("{} 1\n", 1, "no name of a metric"),
        ("{\"a b\"} 1\n", 1, "\"a b\" is no name of a metric"),
        ("a{\"b\"} 1\n", 1, "no '='"),
        ("1a 1\n", 1, "\"1a\" is no name of a metric"),
        ("a-b 1\n", 1, "\"-b\" is no number"),
        ("# HELP a x\n# HELP a x\n", 2, "a second HELP of a"),
        ("# TYPE a gauge\n# TYPE a gauge\n", 2, "a second TYPE of a"),
        ("a 1\n# TYPE a gauge\n", 2, "behind its samples"),
        ("# TYPE a stateset\n", 1, "\"stateset\"; there are"),
        ("# TYPE a-b gauge\n", 1, "no name of a metric"),
        ("# HELP a b\\t\n", 1, "a backslash before"),
        ("# TYPE h histogram\nh 1\n", 2, "is a histogram, whose samples are named"),
        ("# TYPE h histogram\nh_bucket 1\n", 2, "has no label le"),
        ("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", 2, "le of h_bucket is \"x\""),
        ("# TYPE h histogram\nh_count 1.5\n", 2, "no whole number"),
        ("# TYPE h histogram\nh_bucket{le=\"1\"} -1\n", 2, "no whole number"),
        ("# TYPE s summary\ns 1\n", 2, "has no label quantile"),
    ] {
        let refusal = read(text).unwrap_err();
        assert!(refusal.line == line && refusal.what.contains(what), "{text:?}: {refusal:?}");
    }
    assert!(parse(b"a{x=\"\xff\"} 1\n", 9, &mut |_, _| ()).unwrap_err().what.contains("not UTF-8"));
    assert!(parse(b"# \xff\n# HELP a \xff\na 1\n", 9, &mut |_, _| ()).is_ok(), "comments may be anything");
}

#[test]
fn bounds() {
    assert!(parse(b"a 1\nb 1\n", 1, &mut |_, _| ()).unwrap_err().what.contains("more than"));
    assert!(read(&format!("a{{x=\"{}\"}} 1\n", "x".repeat(LONGEST_LINE))).unwrap_err().what.contains("longer"));
    assert!(read(&format!("{} 1\n", "x".repeat(LONGEST_NAME + 1))).unwrap_err().what.contains("longer"));
    let labels: Vec<String> = (0..=MOST_LABELS).map(|label| format!("l{label}=\"\"")).collect();
    assert!(read(&format!("a{{{}}} 1\n", labels.join(","))).unwrap_err().what.contains("labels"));
}

#[test]
fn a_histogram_is_put_in_order() {
    let family = only(
        "# TYPE h histogram\nh_bucket{x=\"1\",le=\"+Inf\"} 3\nh_bucket{le=\"1e1\",x=\"1\"} 1.0e+00\nh_sum{x=\"1\"} 7.5\nh_bucket{le=\"2\"} 1\nh_count 4\n",
    );
    let bodies: Vec<String> = family.metrics.iter().map(|metric| format!("{:?}", metric.body)).collect();
    assert_eq!(
        bodies,
        [
            "Histogram { count: Some(3), sum: Float(7.5), buckets: [(10.0, 1), (inf, 3)] }",
            "Histogram { count: Some(4), sum: Unsigned(0), buckets: [(2.0, 1), (inf, 4)] }"
        ]
    );
}

#[test]
fn a_histogram_that_contradicts_itself_costs_itself_only() {
    let head = "a 1\n# TYPE h histogram\nh_bucket{x=\"1\",le=\"+Inf\"} 3\n";
    for wrong in ["h_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 2\n", "h_bucket{le=\"+Inf\"} 3\nh_count 4\n"] {
        let (families, odd) = read(&format!("{head}{wrong}")).unwrap();
        assert_eq!((families.len(), families[1].metrics.len()), (2, 1));
        assert!(odd[0].starts_with("4: the buckets of h"), "{odd:?}");
    }
    let (families, odd) = read("# TYPE h histogram\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"2.0\"} 5\n").unwrap();
    assert_eq!((families.len(), odd.len()), (1, 1), "{odd:?}");
}

#[test]
fn samples_of_a_summary_are_one() {
    let family =
        only("# TYPE s summary\ns{quantile=\"0.9\",x=\"1\"} 2\ns_sum{x=\"1\"} NaN\ns{quantile=\".5\",x=\"1\"} 1\ns_count{x=\"1\"} 5\n");
    assert_eq!(
        format!("{:?}", family.metrics[0].body),
        "Summary { count: 5, sum: Float(NaN), quantiles: [(0.5, Unsigned(1)), (0.9, Unsigned(2))] }"
    );
    // A sum of something that is no summary is a family of its own.
    assert_eq!(read("# TYPE s gauge\ns 1\ns_sum 1\ns_bucket{le=\"1\"} 1\n").unwrap().0.len(), 3);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        drop(parse(&bytes, 100, &mut |_, _| ()));
    }

    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec("(# TYPE a (histogram|summary|gauge)\n|# HELP a |a(_bucket|_sum|_count)?|\\{|\\}|le=\"|\"|,|quantile| (1|-1|NaN|1e400|2.5)|\n|\\\\|\u{fc})", 0..30)) {
        drop(parse(words.concat().as_bytes(), 100, &mut |_, _| ()));
    }
}
