//! `masking`: SQL scripts that make personal data unrecognisable before anybody can log in.

use super::fields::Fields;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is run on the restored data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masking {
    /// Where the scripts are.
    pub scripts: Scripts,
}

/// Where scripts are. Those of a folder `app` run in database `app`, those at the top in the master's own; in the order
/// of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scripts {
    /// Objects below a prefix, in the target Region.
    S3 {
        /// Bucket.
        bucket: String,
        /// With a `/` at its end, or empty.
        prefix: String,
    },
    /// A folder, where the environment allows one.
    Folder(String),
}

impl fmt::Display for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Folder(path) => write!(f, "file:{path}"),
        }
    }
}

pub(super) fn read(fields: &mut Fields<'_>, folder: Option<&str>) -> Option<Masking> {
    let mut object = fields.object("masking", &["scripts"])?;
    object.problem_if_absent("scripts", "where the scripts are, as s3://bucket/prefix/");
    let scripts = object.text("scripts").and_then(|text| {
        let parsed = parse(&text, folder);
        if parsed.is_none() {
            let also = if folder.is_some() { ", or file:folder" } else { "" };
            object.problem("scripts", &text, &format!("s3://bucket/prefix/ in the target Region{also}"));
        }
        parsed
    });
    fields.absorb(object);
    Some(Masking { scripts: scripts? })
}

fn parse(text: &str, folder: Option<&str>) -> Option<Scripts> {
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-'));
        let prefix = match prefix {
            "" => String::new(),
            prefix => format!("{}/", prefix.trim_end_matches('/')),
        };
        return is_bucket.then(|| Scripts::S3 { bucket: bucket.to_owned(), prefix });
    }
    let name = text.strip_prefix("file:")?;
    // Below the folder that the environment names, nowhere else.
    let is_below = !name.is_empty() && !name.starts_with('/') && name.split('/').all(|part| part != "..");
    folder.filter(|_| is_below).map(|folder| Scripts::Folder(format!("{}/{name}", folder.trim_end_matches('/'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_scripts() {
        let s3 = |bucket: &str, prefix: &str| Some(Scripts::S3 { bucket: bucket.into(), prefix: prefix.into() });
        assert_eq!(parse("s3://my-bucket/masking/app", None), s3("my-bucket", "masking/app/"));
        assert_eq!(parse("s3://my-bucket", None), s3("my-bucket", ""));
        assert_eq!(parse("file:masks", Some("/srv/scripts/")), Some(Scripts::Folder("/srv/scripts/masks".into())));
        for wrong in ["masks", "s3://B/x", "https://x", "file:", "file:/etc", "file:a/../b"] {
            assert_eq!(parse(wrong, Some("/srv")), None, "{wrong}");
        }
        assert_eq!(parse("file:masks", None), None, "only where the environment allows it");
    }
}
