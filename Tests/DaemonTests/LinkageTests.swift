// What the daemon's executable is linked with: libraries that cost tens of megabytes must not come
// back with a dependency.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct LinkageTests {
    /// Names that an executable holds if it is linked with full Foundation or with ICU: of the
    /// shared libraries, of the module where it is linked statically, and of ICU's data.
    private static let unwanted = [
        "libFoundation.so", "libFoundationInternationalization.so", "lib_FoundationICU.so",
        "FoundationInternationalization", "icudt",
    ]

    private func found(in path: String) throws -> [String] {
        let file = try #require(FileManager.default.contents(atPath: path), "\(path)")
        return Self.unwanted.filter { file.range(of: Data($0.utf8)) != nil }
    }

    @Test("the daemon is linked with neither ICU nor full Foundation")
    func daemon() throws {
        #expect(try found(in: DaemonProcess.executable) == [])
    }

    @Test("an executable with full Foundation is told from one without")
    func control() throws {
        // The tests themselves use Foundation.
        let tests = ProjectFolder.executable("smallocPackageTests.xctest")
        #expect(try !found(in: tests).isEmpty)
    }
}
