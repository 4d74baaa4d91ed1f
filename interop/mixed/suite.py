"""suite.py OURS SCRATCH RELEASE SCENARIO...: plays scenarios (see SCENARIOS) to mixed ensembles of that Java release
and of servers of kind OURS, which is oxkeeper, or java to prove the suite."""

import signal
import sys
import time
import traceback
from pathlib import Path

import checks
import migration
import reconfiguration as reconfig
import roles
import settings
import succession
import synchronisation
from ensemble import JAVA, Ensemble


class Suite:
    def __init__(self, ours, scratch, release):
        self.ours, self.scratch, self.release = ours, Path(scratch), release
        self.made = 0

    def ensemble(self, ours, java, observers=(), **settings):
        """An ensemble with these ids of either kind."""
        self.made += 1
        kinds = {sid: self.ours for sid in ours} | {sid: JAVA for sid in java}
        return Ensemble(self.scratch / str(self.made), dict(sorted(kinds.items())), self.release, observers, **settings)

    def say(self, text):
        print(f"    {time.monotonic() - BEGUN:6.1f} s  {text}", flush=True)

    def all_checks_of(self, ensemble, offline=True):
        """Roles, then the same trees and logs; with `offline` the ensemble is stopped, and the directories read
        by the others."""
        roles.play(ensemble)
        self.say("roles: every check passed")
        ensemble.await_same_zxid()
        tree = checks.expect_same_trees(ensemble, with_kazoo=True)
        self.say(f"trees: {len(tree)} znodes, the same on {len(ensemble.running)} servers")
        if offline:
            self.check_directories(ensemble, tree)

    def check_directories(self, ensemble, tree, ours=()):
        """Stops the ensemble: logs agree, Java's tools read the directories of ours, and the other kind opens each.
        `ours` are the members that were ours at some time, if not those that are."""
        ensemble.stop()
        compared = checks.expect_same_logs(ensemble)
        checks.expect_readable_by_java(ours or [m for m in ensemble if m.kind == self.ours])
        checks.expect_opened_by_the_other_kind(list(ensemble), self.ours, tree, self.scratch)
        self.say(f"directories: {compared} txns logged alike, each directory opened by the other kind")


def roles_and_synchronisation(suite, ours, java, thorough=True):
    """Server 3 leads, 4 observes; everything that clients may expect; each way to bring a learner up to date; then the
    leader is left behind by server 2, and that again by server 3, twice if `thorough`."""
    with suite.ensemble(ours, java, observers=(4,), snapshotSizeFactor=-1) as ensemble:
        ensemble.start_led_by(3)
        suite.say(f"ours: {ours}, Java: {java}; server 3 leads, server 4 observes")
        suite.all_checks_of(ensemble, offline=False)
        for sid in (2, 4):
            suite.say(synchronisation.nothing_missed(ensemble, sid))
            suite.say(synchronisation.few_missed(ensemble, sid, f"/few-{sid}"))
            suite.say(synchronisation.directory_lost(ensemble, sid, f"/lost-{sid}"))
        suite.say(synchronisation.many_missed(ensemble, 2, "/many"))
        for meanwhile in (False, True) if thorough else (False,):
            for next_leader in (2, 3):
                path = f"/uncommitted-{next_leader}-{meanwhile}"
                suite.say(synchronisation.uncommitted(ensemble, path, next_leader, meanwhile))
        suite.check_directories(ensemble, checks.dump(ensemble[1]))


def java_leads(suite, thorough=True):
    """Ours follows and observes a Java leader."""
    roles_and_synchronisation(suite, (2, 4), (1, 3), thorough)


def ours_leads(suite, thorough=True):
    """Java follows and observes ours."""
    roles_and_synchronisation(suite, (3,), (1, 2, 4), thorough)


def java_leads_briefly(suite):
    java_leads(suite, thorough=False)


def ours_leads_briefly(suite):
    ours_leads(suite, thorough=False)


def java_is_the_minority(suite):
    """Ours leads one of ours and a Java follower, with a Java observer; then a Java leader with two of ours."""
    with suite.ensemble(ours=(2, 3), java=(1, 4), observers=(4,)) as ensemble:
        ensemble.start_led_by(3)
        suite.all_checks_of(ensemble)
    with suite.ensemble(ours=(1, 2, 4), java=(3,), observers=(4,)) as ensemble:
        ensemble.start_led_by(3)
        suite.all_checks_of(ensemble)


def leaders_lost(suite, lose, rounds):
    """In ensembles of three voters and an observer, in which each kind is once the majority of the voters."""
    both = {(suite.ours, JAVA), (JAVA, suite.ours)}
    for ours in ((2, 4), (1, 3)):
        java = tuple(sid for sid in (1, 2, 3, 4) if sid not in ours)
        with suite.ensemble(ours, java, observers=(4,)) as ensemble:
            ensemble.start()
            lose(ensemble, suite.release, rounds, suite.say, both)
            # A leader that is ahead when it comes back may get a snapshot, under load.
            checks.expect_same_trees(ensemble, fuzzy=list(ensemble))
            ensemble.stop()
            checks.expect_same_logs(ensemble)


def leaders_killed_briefly(suite):
    leaders_lost(suite, succession.kill_leaders, rounds=3)


def leaders_killed_often(suite):
    leaders_lost(suite, succession.kill_leaders, rounds=20)


def leaders_paused(suite):
    leaders_lost(suite, succession.pause_leaders, rounds=5)


def migration_and_back(suite):
    with suite.ensemble(ours=(), java=(1, 2, 3)) as ensemble:
        ensemble.start()
        tree = migration.migrate(ensemble, suite.release, suite.ours, suite.say)
        suite.check_directories(ensemble, tree, ours=list(ensemble))


def migration_of_dynamic(suite):
    """A migration of servers that Java lets keep their list in a file of its own (reconfigEnabled)."""
    with suite.ensemble(ours=(), java=(1, 2, 3), reconfigEnabled="true") as ensemble:
        ensemble.start()
        migration.migrate(ensemble, suite.release, suite.ours, suite.say)


def reconfiguration(suite):
    """Servers leave, join and change while Java leads, and while ours leads."""
    with suite.ensemble(ours=(2, 4), java=(1, 3), reconfigEnabled="true") as ensemble:
        reconfig.play(ensemble, suite.say)
        ensemble.await_same_zxid()
        checks.expect_same_trees(ensemble)
        ensemble.stop()
        checks.expect_same_logs(ensemble)


def local_sessions(suite):
    """Sessions that one server alone knows; led by Java, then by ours."""
    for upgrading in (True, False):
        for ours, java in (((1, 2), (3,)), ((3,), (1, 2))):
            with suite.ensemble(ours, java, localSessionsEnabled="true",
                                localSessionsUpgradingEnabled=str(upgrading).lower()) as ensemble:
                ensemble.start_led_by(3)
                settings.local_sessions(ensemble, upgrading)
                suite.say(f"local sessions: {ensemble[3]} leads, upgrading {upgrading}")


def read_only_mode(suite):
    """Ours are left alone by a majority of Java's and by one of Java's and one of ours."""
    for ours, java in (((1, 2), (3,)), ((2,), (1, 3))):
        with suite.ensemble(ours, java, **{"readonlymode.enabled": "true"}) as ensemble:
            ensemble.start()
            for sid in ours:
                settings.read_only(ensemble, ensemble[sid])
                suite.say(f"{ensemble[sid]} read alone")


def groups_and_weights(suite):
    """A server of each kind outweighs two of the other."""
    weights = {"group.1": "1:2:3", "weight.1": 1, "weight.2": 1, "weight.3": 3}
    for ours, java in (((1, 2), (3,)), ((3,), (1, 2))):
        with suite.ensemble(ours, java, **weights) as ensemble:
            ensemble.start()
            settings.weights(ensemble, ensemble[3], suite.say)
    apart = {"group.1": "1", "group.2": "2", "group.3": "3"}
    with suite.ensemble((1, 2), (3,), **apart) as ensemble:
        ensemble.start()
        leader = ensemble.leader()
        leader.kill()
        ensemble.leader()
        ensemble.start(leader.sid)
        checks.expect_same_trees(ensemble)
        suite.say("three groups of one each: two of them decide")


def without_data(suite):
    """db.autocreate=false: members that lost their data wait for who has it; of either kind."""
    for ours, java in (((1, 2), (3,)), ((1,), (2, 3))):
        with suite.ensemble(ours, java) as ensemble:
            ensemble.start()
            for member in ensemble:
                member.settings = member.settings | {"db.autocreate": "false"}
                member.configure()
            ensemble.stop()
            ensemble.start()
            blank = next(ensemble[sid] for sid in (*ours, *java) if ensemble[sid].mode() != "leader")
            settings.without_data(ensemble, blank)
            suite.say(f"{blank} lost its data, then it and another, and took it from who had it")


def migration_of_one(suite):
    with suite.ensemble(ours=(), java=(1, 2, 3)) as ensemble:
        ensemble.start()
        migration.migrate(ensemble, suite.release, suite.ours, suite.say, only=(2,))


def large_trees(suite, znodes=50_000):
    """SNAPs of a large tree under load, in both directions."""
    for leader_is_ours in (False, True):
        ours, java = ((3, 4), (1, 2)) if leader_is_ours else ((2,), (1, 3, 4))
        with suite.ensemble(ours, java, observers=(4,), snapCount=20000) as ensemble:
            ensemble.start_led_by(3)
            suite.say(synchronisation.large_tree_under_load(ensemble, 2, "/large", znodes))
            suite.check_directories(ensemble, checks.dump(ensemble[3]))


SCENARIOS = {scenario.__name__: scenario for scenario in (
    java_leads, java_leads_briefly, ours_leads, ours_leads_briefly, java_is_the_minority, large_trees,
    leaders_killed_briefly, leaders_killed_often, leaders_paused, migration_and_back, migration_of_dynamic,
    migration_of_one, reconfiguration, local_sessions, read_only_mode, groups_and_weights, without_data)}
BEGUN = time.monotonic()


def main(ours, scratch, release, *names):
    suite = Suite(ours, scratch, release)
    for name in names:
        print(f"{name} (Java {release}, ours: {ours})", flush=True)
        begun = time.monotonic()
        try:
            SCENARIOS[name](suite)
        except Exception as failure:
            traceback.print_exc()
            sys.exit(f"{name} failed after {time.monotonic() - begun:.0f} s: {failure}")
        print(f"{name} passed in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(124))
    main(*sys.argv[1:])
