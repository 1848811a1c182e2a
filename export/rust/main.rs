//! Features to detections in Rust without crates: ONNX Runtime runs the detector, the core's C ABI decodes.

mod bundle;
mod decode;
mod json;
mod onnxruntime;
mod stale_core;

use std::path::Path;
use std::process::exit;
use std::time::Instant;

use bundle::{read_features, Bundle};
use json::{quoted, shown};
use onnxruntime::Detector;

const USAGE: &str = "stale_detect BUNDLE FEATURES.npy --duration SECONDS [--precision fp32|int8] [--repeat N]";

const HELP: &str = "Finds actions in a video's features with the detector of a bundle, and prints them as JSON.

  BUNDLE          the bundle's folder
  FEATURES.npy    features (T, C) of the whole video, float32 or float16
  --duration      length of the video in seconds, > 0
  --precision     fp32 (the default) or int8
  --repeat        run N more times and write the median time to stderr
  --version       print the version of ONNX Runtime";

struct Options {
    paths: Vec<String>,
    duration_s: f64,
    precision: String,
    repeat: usize,
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { paths: vec![], duration_s: 0.0, precision: "fp32".to_string(), repeat: 0 };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if !argument.starts_with("--") {
            options.paths.push(argument.clone());
            continue;
        }
        let value = rest.next().ok_or(format!("{} needs a value", argument))?;
        match argument.as_str() {
            "--duration" => options.duration_s = value.parse().map_err(|_| format!("--duration must be a number; got {}", value))?,
            "--repeat" => options.repeat = value.parse().map_err(|_| format!("--repeat must be a number; got {}", value))?,
            "--precision" => options.precision = value.clone(),
            "--graph" if value == "detector" => {}
            "--graph" => return Err(format!("this program runs the detector with the core; got --graph {}", shown(value))),
            other => return Err(format!("unknown option {}", shown(other))),
        }
    }
    if options.paths.len() != 2 {
        return Err("expected BUNDLE and FEATURES.npy".to_string());
    }
    if !options.duration_s.is_finite() || options.duration_s <= 0.0 {
        return Err("--duration must be the length of the video in seconds, finite and > 0".to_string());
    }
    Ok(options)
}

fn run(options: &Options, api: onnxruntime::Api) -> Result<(), String> {
    let bundle = Bundle::open(&options.paths[0])?;
    let entry = bundle.detector(&options.precision)?;
    let decoder = bundle.decoder(entry)?;
    let network = bundle.checked_file(entry)?;
    let classes = bundle.class_bank()?;
    let path = Path::new(&options.paths[1]);
    let features = bundle.fitted(&read_features(path)?)?;

    let detector = Detector::open(api, &network)?;
    let (t, k) = (features.rows, classes.names.len());
    let localize = || {
        let (video, vocabulary) = ((&features.values[..], t), (&classes.embeddings.values[..], k));
        let outputs = detector.run(video, vocabulary, &decoder.names())?;
        decoder.decode(&outputs, k, t)
    };

    let grid = bundle.time_grid(options.duration_s)?;
    let (found, n_snippets) = localize()?;
    let rows: Vec<String> = found
        .iter()
        .map(|d| {
            let label = quoted(&classes.names[d.label as usize]);
            let (start, end) = (grid.seconds(d.start, n_snippets), grid.seconds(d.end, n_snippets));
            format!("\n  {{\"label\": {}, \"score\": {}, \"segment\": [{}, {}]}}", label, d.score, start, end)
        })
        .collect();
    let video = quoted(&path.file_stem().unwrap_or_default().to_string_lossy());
    println!("{{\"version\": \"1.3\", \"results\": {{{}: [{}\n]}}, \"external_data\": {{}}}}", video, rows.join(","));

    if options.repeat > 0 {
        let mut milliseconds = vec![];
        for i in 0..options.repeat + 3 {
            let start = Instant::now();
            localize()?;
            if i >= 3 {
                milliseconds.push(start.elapsed().as_secs_f64() * 1e3); // after three warm-ups
            }
        }
        milliseconds.sort_by(|a, b| a.total_cmp(b));
        eprintln!("milliseconds: {:.3}", milliseconds[milliseconds.len() / 2]);
    }
    Ok(())
}

/// What a terminal shows as one line, whatever a bundle holds.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(900).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--help"] || arguments == ["-h"] {
        println!("usage: {}\n\n{}", USAGE, HELP);
        return;
    }
    let (api, version) = onnxruntime::open_library().unwrap_or_else(|problem| {
        eprintln!("error: {}", problem);
        exit(1);
    });
    if arguments == ["--version"] {
        println!("ONNX Runtime {}", version);
        return;
    }
    let options = options(&arguments).unwrap_or_else(|problem| {
        eprintln!("{}; usage: {}", one_line(&problem), USAGE);
        exit(2);
    });
    if let Err(problem) = run(&options, api) {
        eprintln!("error: {}", one_line(&problem));
        exit(1);
    }
}
