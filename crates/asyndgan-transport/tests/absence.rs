//! Sites that ask for a run and do not join it.
#![allow(missing_docs, reason = "tests")]

mod support;

use asyndgan_protocol::{SiteId, Waiting};
use asyndgan_transport::{Absence, AbsenceReason, EndedRuns, Error, GrpcServer, Identity, RunEnd};
use support::{PATIENT, keys, run, serve, stub_site, take_part};

#[test]
fn a_server_knows_why_a_site_does_not_join_until_it_joins() {
    let (keys, run) = (keys(), run(4, Waiting::All));
    let link = keys.server(&["north", "south"], &run, 0).start(|_| {}).expect("listens");
    let (address, absences) = (link.address(), link.absences());
    let ask = |report: Option<Absence>| {
        keys.site("south", address).with(|site| site.absence = report).describe().expect("an answer");
        absences.reason(SiteId(1))
    };
    assert_eq!(ask(None), None);
    let other = run.clone().with(|run| run.seed += 1);
    assert_eq!(ask(Some(Absence::new(&other, AbsenceReason::Refused))), None, "it is about another run");
    for reason in [AbsenceReason::AwaitsApproval, AbsenceReason::Refused, AbsenceReason::Finished, AbsenceReason::OtherImages] {
        assert_eq!(ask(Some(Absence::new(&run, reason))), Some(reason));
    }
    assert_eq!((absences.reason(SiteId(0)), absences.reason(SiteId(9))), (None, None));
    let served = serve(link, run, 2, PATIENT);
    let sites = [take_part(keys.site("north", address), stub_site(3)), take_part(keys.site("south", address), stub_site(4))];
    for site in sites {
        site.join().expect("no panic").expect("ends well");
    }
    served.join().expect("no panic").expect("ends well");
    assert_eq!(absences.reason(SiteId(1)), None, "it has joined");
}

#[test]
fn a_site_that_was_away_learns_how_its_runs_have_ended() {
    let keys = keys();
    let [finished, aborted, unknown] = ["a", "b", "c"].map(|name| run(4, Waiting::All).with(|run| run.name = name.into()));
    let ended = EndedRuns::default();
    ended.set([(finished.sha256(), RunEnd::Finished), (aborted.sha256(), RunEnd::Aborted)]);
    let runs = vec![unknown.clone(), aborted, finished];
    let expected = vec![None, Some(RunEnd::Aborted), Some(RunEnd::Finished)];

    let idle = GrpcServer::without_run(
        ([127, 0, 0, 1], 0).into(),
        Identity::read(&keys.folder.path().join("server.pem")).expect("a bundle"),
        keys.folder.path().join("revoked.pem"),
        "no run is queued",
    );
    let idle = idle.with(|server| server.ended = ended.clone()).start(|_| {}).expect("listens");
    assert_eq!(keys.site("north", idle.address()).ended_runs(runs.clone()).expect("an answer"), expected);
    drop(idle);

    let busy = keys.server(&["south"], &unknown, 0).with(|server| server.ended = ended.clone()).start(|_| {}).expect("listens");
    let north = || keys.site("north", busy.address());
    assert!(matches!(north().describe(), Err(Error::Rejected { .. })), "it is not a participant");
    assert_eq!(north().ended_runs(runs).expect("an answer"), expected);
    // The operator ends another one while the server runs; and a site may have begun more runs than fit into a request.
    ended.set([(unknown.sha256(), RunEnd::Aborted)]);
    let mut many = vec![run(4, Waiting::All); 2_500];
    many.push(unknown.clone());
    let ends = north().ended_runs(many).expect("an answer");
    assert!(ends.len() == 2_501 && ends[2_500] == Some(RunEnd::Aborted) && ends[..2_500].iter().all(Option::is_none));
}
