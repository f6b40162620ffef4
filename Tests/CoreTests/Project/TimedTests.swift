// The time that every test has: tried with a watch of its own, as the real one ends the run.

import Foundation
import Synchronization
import Testing
import TestSupport

@Suite("Time of tests", .timed)
struct TimedTests {
    @Test("what does not end in time is told once, whatever its thread does; what ends is not")
    func late() {
        let told = Mutex<[String]>([])
        let watch = TimeWatch { name, seconds in told.withLock { $0.append("\(name) \(seconds)") } }
        let stuck = watch.begin("stuck", seconds: 0.1)
        let ended = watch.begin("ended", seconds: 0.1)
        watch.end(ended)
        _ = watch.begin("long", seconds: 600)
        #expect(eventually { told.withLock { !$0.isEmpty } })
        usleep(500_000)
        #expect(told.withLock { $0 } == ["stuck 0.1"])
        watch.end(stuck)
    }

    @Test("every suite has a time, and every test a suite")
    func all() throws {
        let root = ProjectFolder.root.appendingPathComponent("Tests").resolvingSymlinksInPath().path
        let paths = (FileManager.default.subpaths(atPath: root) ?? []).filter {
            $0.hasSuffix("Tests.swift")
        }
        #expect(paths.count > 80)
        for path in paths {
            let text = try String(contentsOfFile: root + "/" + path, encoding: .utf8)
            let lines = text.split(separator: "\n")
            // Of one that goes over several lines the first two.
            let suites = lines.indices.filter { lines[$0].hasPrefix("@Suite") }
                .map { lines[$0] + (lines.indices.contains($0 + 1) ? lines[$0 + 1] : "") }
            #expect(!suites.isEmpty, "\(path) has no suite")
            for suite in suites { #expect(suite.contains(".timed"), "\(path): \(suite)") }
            // One outside of a suite would have none.
            #expect(!lines.contains { $0.hasPrefix("@Test") }, "\(path)")
        }
    }
}
