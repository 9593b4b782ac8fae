//! What a site's policy demands of runs with differential privacy.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::{PrivacyBudget, RequestedPrivacy, RequestedTraining, SitePolicy, SiteSummary, Waiting};
use simulation::{run, work::learning};

#[test]
fn differential_privacy_without_a_limit_lifts_no_other_limit() {
    let described = run(800, Waiting::All).with(|run| {
        (run.channels, run.size, run.crop, run.batch, run.checkpoint_every) = (3, 143, 64, 2, 100);
    });
    let mut learning = learning();
    let privacy = |epsilon, delta, images_per_patient| {
        let budget = PrivacyBudget { epsilon, delta };
        Some(RequestedPrivacy { budget, patients_per_step: 36, images_per_patient, discriminator_steps: 1 })
    };
    // 48 cases of four patients.
    let summary = SiteSummary { cases: 48, image_dims: vec![3, 143, 143], conditions_sha256: [0; 32] };
    let patients: Vec<u32> = (0..48).map(|case| case / 12).collect();
    let check = |policy: &SitePolicy, learning: &RequestedTraining| policy.check(&described, learning, &summary, &patients);
    let limited = SitePolicy::default().with(|policy| policy.epsilon_max = 8.0);
    assert!(check(&limited, &learning).expect_err("no privacy").to_string().contains("epsilon_max is 8"));
    learning.privacy = privacy(1e9, 0.99, 1);
    let single = SitePolicy::default().with(|policy| policy.patients_per_batch_min = 1);
    for policy in [&single, &limited] {
        assert!(check(policy, &learning).expect_err("no bound at all").to_string().contains("delta is 0.00001"));
    }
    learning.privacy = privacy(1e9, 1e-6, 20);
    assert!(check(&SitePolicy::default(), &learning).expect_err("a step of one patient").to_string().contains("patients_per_batch_min"));
    assert!(check(&single, &learning).expect_err("each image in every round").to_string().contains("case_rounds_max"));
    assert!(check(&limited, &learning).is_ok(), "the site's budget limits it");
    learning.privacy = privacy(4.0, 1e-6, 65);
    assert!(check(&limited, &learning).expect_err("too many images at once").to_string().contains("batch_max"));
    learning.privacy = privacy(4.0, 1e-6, 1);
    assert!(check(&single, &learning).is_ok());
}
