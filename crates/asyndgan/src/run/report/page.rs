//! A run as one self-contained HTML page.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use asyndgan_paper::{Arm, Claim, DataKind, Experiment, ImageQuality, KindTraffic, PER_SLICE, Profile, Row, SiteTraffic, Table, Verdict};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plots::{boxes, losses, score_against_bytes, score_against_rounds};
use crate::run::RunFolder;

/// Builds the page from the sections of the runs, and their tables.
pub(super) fn page(sections: &[Markup], tables: &[Table]) -> String {
    let title = tables.first().map_or_else(|| "AsynDGAN report".into(), |table| format!("{} (AsynDGAN report)", table.title()));
    html_page(
        &title,
        &html! {
            @for section in sections { (section) }
            (how_to_read(tables))
        },
    )
}

/// A self-contained page.
pub(crate) fn html_page(title: &str, content: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body { main { (content) } }
        }
    }
    .into_string()
}

/// Builds the section of one run.
pub(super) fn section(folder: &RunFolder, table: &Table) -> Result<Markup> {
    let phantom = table.data.kind == DataKind::Phantom;
    Ok(html! {
        section {
            h1 { (table.title()) }
            @if phantom { p.warning { "Phantom data: artificial patients. No number on this page says anything about patients." } }
            @if table.profile == Profile::Smoke {
                p.warning { "A smoke run shows that every step works; its numbers and verdicts mean nothing." }
            }
            @if table.configuration.data.is_some() {
                p.warning { "This page shows images of real patients and their file names: keep it only where the data may be kept." }
            }
            @if table.configuration.settings.protocol.l1_weight > 0.0 {
                p.warning { "Trained with an L1 term: in a run across hospitals, its gradients would reveal real images." }
            }
            @if table.validation {
                p.warning { "Validation: scored on patients of the training sites that were excluded from training, to choose settings." }
            }
            (provenance(table))
            h2 { "Table" } (rows(table, &table.rows))
            @if table.experiment != Experiment::Fig5 {
                p.small { "Mean (standard deviation) over held-out cases, each averaged over seeds; below it the 95 % bootstrap interval of the mean." }
            }
            h2 { "Claims" } (claims(&table.claims, table.experiment))
            @for group in &table.groups {
                h2 { "Held-out cases of the list " code { (group.name) } }
                (rows(table, &group.rows)) (claims(&group.claims, table.experiment))
            }
            @if let Some(per_slice) = &table.per_slice {
                h2 { "Per slice" } (rows(table, &per_slice.rows)) p.small { (PER_SLICE) } (claims(&per_slice.claims, table.experiment))
            }
            @if !table.curve.is_empty() { h2 { "Score against rounds" } (score_against_rounds(table)?) }
            (score_against_bytes(table)?)
            @if table.experiment != Experiment::Fig5 { h2 { "Cases" } (boxes(folder, table)?) }
            h2 { "Pictures" } (pictures(folder)?)
            @if !table.image_quality.is_empty() { h2 { "Image quality" } (quality(&table.image_quality)) }
            h2 { "Losses" } (losses(folder, table)?)
            h2 { "Network traffic" } (traffic(table))
            h2 { "How it was computed" } (configuration(table))
        }
    })
}

fn provenance(table: &Table) -> Markup {
    let minutes = table.seconds.values().sum::<f64>() / 60.0;
    let seeds: Vec<String> = table.seeds.iter().map(u64::to_string).collect();
    html! {
        p {
            (table.data.train_cases) " training cases at " (table.data.sites.len()) " sites, " (table.data.test_cases) " held out; "
            (table.data.kind.label()) "; " (if table.seeds.len() == 1 { "seed " } else { "seeds " }) (seeds.join(", ")) "; " (format!("{:.0}", minutes.ceil()))
            " min of compute time"
            @if table.resumed_from_round.values().any(|&round| round > 0) { " (without the time before an interruption of training)" } "."
        }
        @let changed = table.changed_settings();
        @if !changed.is_empty() { p { "Settings that differ from the profile: " (changed.join(", ")) } }
    }
}

fn rows(table: &Table, rows: &[Row]) -> Markup {
    let columns = &table.configuration.columns();
    let best = |name: &str, up: bool| {
        let means = rows.iter().filter_map(|row| row.metrics.get(name)?.mean);
        means.reduce(|a, b| if up { a.max(b) } else { a.min(b) })
    };
    html! {
        div.wide { table {
            thead { tr {
                th { "arm" }
                @for column in columns { th.number { (column.heading) " " (if column.higher_is_better { "↑" } else { "↓" }) } }
                th.number { "n" } th.number { "undefined" }
            } }
            tbody { @for row in rows { tr.chosen[row.arm == Arm::AsynDgan] {
                th { (table.row_name(row.arm)) }
                @for column in columns { td.number {
                    @if let Some(m) = row.metrics.get(&column.name) { span.best[m.mean.is_some() && m.mean == best(&column.name, column.higher_is_better)] { (m.cell()) } (interval(m.interval))
                        @if let Some(undefined) = m.undefined_slices() { br; span.small { (undefined) } } }
                } }
                td.number { (row.metrics.values().map(|m| m.n).max().unwrap_or(0)) }
                td.number { (row.metrics.values().map(|m| m.undefined).sum::<usize>()) }
            } } }
        } }
    }
}

fn interval(interval: Option<[f64; 2]>) -> Markup {
    html! { @if let Some([low, high]) = interval { br; span.small { (format!("{low:.4} to {high:.4}")) } } }
}

fn claims(claims: &[Claim], experiment: Experiment) -> Markup {
    let heads = || html! { th { "compared" } @for head in ["difference", "95 % interval", "p", "n"] { th.number { (head) } } };
    let cells = |[compared, numbers @ ..]: [String; 5]| html! { td.name { (compared) } @for cell in numbers { td.number { (cell) } } };
    html! {
        div.wide { table {
            thead { tr { th { "claim" } th { "verdict" } (heads()) } }
            tbody { @for claim in claims { tr {
                td { (claim.claim) }
                td.yes[claim.verdict == Verdict::Shown].no[claim.verdict == Verdict::Contradicted] { (claim.verdict) }
                (cells(claim.cells()))
            } } }
        } }
        p.small { (experiment.about_claims()) }
        @if claims.iter().any(|claim| claim.comparisons.len() > 1) {
            details {
                summary { "All comparisons" }
                div.wide { table {
                    thead { tr { th { "claim" } (heads()) } }
                    tbody { @for claim in claims { @for comparison in &claim.comparisons { tr {
                        td { (claim.claim) }
                        (cells(comparison.cells()))
                    } } } }
                } }
            }
        }
    }
}

fn pictures(folder: &RunFolder) -> Result<Markup> {
    let known = [
        ("synthetic.png", "Conditions, the image that each generator makes from them, and the real image with the same condition."),
        ("predictions.png", "Held-out images, their ground truth, and the prediction of each arm's segmenter."),
        ("neighbours.png", "Synthetic images, each next to its nearest neighbour among all real training images, to check for copies."),
        (
            "fig5.png",
            "Samples of each arm's generator (blue) and the true mixture (red). \
             For overlapping conditions, theory predicts the barycentre (black).",
        ),
    ];
    let mut found = Vec::new();
    for (name, caption) in known {
        let path = folder.path.join(name);
        if path.is_file() {
            let picture = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.push((STANDARD.encode(picture), caption));
        }
    }
    Ok(html! {
        @for (data, caption) in &found {
            figure.wide { img src=(format!("data:image/png;base64,{data}")) alt=(caption); figcaption { (caption) } }
        }
    })
}

fn quality(rows: &[ImageQuality]) -> Markup {
    let name = |row: &ImageQuality| row.arm.map_or_else(|| "held-out patients (real)".into(), |arm| arm.to_string());
    let number = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| format!("{v:.3}"));
    html! {
        div.wide { table {
            thead { tr {
                th { "images of" } th.number { "images" } th.number { "FID ↓" } th.number { "KID ↓" }
                th.number { "precision ↑" } th.number { "recall ↑" } th.number { "nearest real: 5th percentile" } th.number { "median" }
            } }
            tbody { @for row in rows { tr {
                th { (name(row)) }
                td.number { (row.images) }
                td.number { (number(row.fid)) } td.number { (number(row.kid)) }
                td.number { (number(row.precision)) } td.number { (number(row.recall)) }
                td.number { (number(row.nearest_real.map(|n| n[0]))) } td.number { (number(row.nearest_real.map(|n| n[1]))) }
            } } }
        } }
        @for row in rows { @for (measure, why) in &row.undefined { p.small { (name(row)) ": " (measure) " is undefined: " (why) } } }
        p.small {
            "Each row compares crops with the same number of crops of real training images. The features are those of the lowest level of "
            "the segmenter that was trained on all real images, averaged over a crop. The nearest real image is searched for among crops "
            "that cover every real training image. The features are not those of an Inception network, so compare these numbers only "
            "within this table. The first row shows the scores of real images of other patients. Precision and recall use 3 neighbours. "
            "If synthetic images are much closer to real training images than held-out real images are, this suggests copies. If they are "
            "not, this does not prove that nothing was copied."
        }
    }
}

/// The traffic of the arms that learn from the sites without collecting their images.
fn traffic(table: &Table) -> Markup {
    let bytes = |kinds: &SiteTraffic| kinds.values().map(|kind| kind.bytes).sum();
    let is_distributed = |run: &str| run.rsplit('/').next().and_then(|arm| arm.parse::<Arm>().ok()).is_none_or(Arm::is_distributed);
    // Site 10 after site 9.
    let number = |site: &str| site.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
    html! {
        div.wide { table {
            thead { tr { th { "run" } th { "site" } th.number { "sent and received" } th { "by kind of message" } } }
            tbody { @for (run, sites) in table.bytes.iter().filter(|(run, _)| is_distributed(run)) {
                @let sites: BTreeMap<_, _> = sites.iter().map(|(site, kinds)| ((number(site), site), kinds)).collect();
                @for ((_, site), kinds) in sites { tr {
                    td.name { (run) @if let Some(round) = table.resumed_from_round.get(run).filter(|&&round| round > 0) {
                        br; span.small { "counted from round " (round) " only: training was interrupted there" }
                    } }
                    td.name { (site) }
                    td.number { (amount(bytes(kinds))) }
                    td.small { (by_kind(kinds)) }
                } }
            } }
        } }
        p.small {
            "Masks and the run description are sent once. In AsynDgan, synthetic images go out and gradients come back in every round; real "
            "images and discriminators never leave their site. In FedAvg, FedGan and MdGan, weights leave that were trained on real images."
        }
    }
}

/// Bytes in a unit that fits.
fn amount(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e3 {
        format!("{bytes} bytes")
    } else if bytes < 1e5 {
        format!("{:.1} kB", bytes / 1e3)
    } else {
        format!("{:.1} MB", bytes / 1e6)
    }
}

fn by_kind(kinds: &SiteTraffic) -> String {
    let of = |(name, kind): (&String, &KindTraffic)| {
        let KindTraffic { messages, bytes } = kind;
        format!("{name} {} in {messages} {}", amount(*bytes), if *messages == 1 { "message" } else { "messages" })
    };
    kinds.iter().map(of).collect::<Vec<_>>().join("; ")
}

fn configuration(table: &Table) -> Markup {
    let settings: Vec<(String, String)> = table.configuration.settings.plain().into_iter().map(|(k, v)| (k, v.to_string())).collect();
    html! {
        details {
            summary { "Sites and patients" }
            @for site in &table.data.sites { p.small { b { (site.name) } ": " (site.cases) " images of " (site.patients.join(", ")) } }
        }
        details {
            summary { "Settings" }
            dl { @for (name, value) in &settings { dt { (name) } dd { (value) } } }
        }
        details {
            summary { "Metrics" }
            dl { @for (name, value) in &table.convention { dt { (name) } dd { (value) } } }
        }
        @let all: f64 = table.seconds_by_step.values().sum();
        details open[all > 0.0] {
            summary { "Seconds" }
            dl { @for (name, value) in &table.seconds_by_step { dt { (name) } dd { (format!("{value:.0} s, {:.0} %", 100.0 * value / all)) } } }
            dl { @for (name, value) in &table.seconds { dt { (name) } dd { (format!("{value:.0}")) } } }
        }
        p.small { (table.versions.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join("; ")) }
    }
}

/// Explains the arms and the claims of the runs.
fn how_to_read(tables: &[Table]) -> Markup {
    let has = |is: fn(Arm) -> bool| tables.iter().flat_map(|table| &table.rows).any(|row| is(row.arm));
    let is_toy = tables.iter().all(|table| table.experiment == Experiment::Fig5);
    html! {
        section {
            h2 { "How to read this" }
            @if is_toy {
                p {
                    "Every arm trains a generator of numbers; a site holds one Gaussian of the mixture. SynAll has one discriminator that "
                    "sees the data of all sites, SynSubset-n has that of site n alone, and AsynDgan has a discriminator at each site. In "
                    "AsynDgan-Overlap, all sites have the same conditions: theory then predicts the barycentre of the Gaussians, and not "
                    "their mixture. Distances are of Wasserstein-1; smaller is better."
                }
            } @else {
                p {
                    "Every arm trains the same segmenter for the same number of steps; only the training images differ. All arms are scored "
                    "on the same held-out patients."
                }
                dl {
                    @if has(|arm| arm == Arm::RealAll) { dt { "RealAll" } dd { "the real images of all sites, which no single hospital has" } }
                    @if has(|arm| matches!(arm, Arm::RealSubset(_))) { dt { "RealSubset-n" } dd { "the real images of site n alone" } }
                    @if has(|arm| arm == Arm::SynAll) { dt { "SynAll" } dd { "synthetic images of one GAN that was trained on the images of all sites in one place" } }
                    @if has(|arm| arm == Arm::AsynDgan) { dt { "AsynDgan" } dd { "synthetic images of a generator that was trained against the discriminators of the sites; no real image left its site" } }
                    @if has(|arm| matches!(arm, Arm::OwnPlusSyn(_))) { dt { "OwnPlusSyn-n" } dd { "the images of AsynDgan with the real images of site n, as a hospital would use them" } }
                    @if has(|arm| arm == Arm::FedAvg) { dt { "FedAvg" } dd { "the segmenter itself is trained at all sites, and its weights are averaged; these weights leave the sites" } }
                    @if has(|arm| arm == Arm::FedGan) { dt { "FedGan" } dd { "synthetic images of a GAN at each site, whose weights are averaged" } }
                    @if has(|arm| arm == Arm::MdGan) { dt { "MdGan" } dd { "as AsynDgan, with discriminators that move from site to site" } }
                }
                p {
                    "The paper claims that RealAll is best, that AsynDgan is better than every RealSubset, and that it comes close to SynAll. "
                    "Claims about OwnPlusSyn and FedAvg are not in the paper. The claims are judged by the intervals of the paired "
                    "differences. A claim that is not shown is not decided by these cases. The best RealSubset is selected on the same "
                    "cases that it is scored on, which favours it."
                }
            }
        }
    }
}
