// Requests that wait in the client because the daemon takes no more at once.

import Testing
import TestSupport

@testable import Smalloc

@Suite("The unsent queue", .timed)
struct BacklogTests {
    @Test("what waits behind the daemon's limit takes room for as many as wait, however long")
    func backlog() async throws {
        let daemon = try DaemonProcess(["--requests-in-flight-max", "8"])
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        let allocation = try await smalloc.alloc(64, .double)
        let link = try await smalloc.connection.link().link
        let most = try await withThrowingTaskGroup(of: Int.self) { group in
            for index in 0..<64 {
                group.addTask {
                    var most = 0
                    for round in 0..<100 {
                        try await allocation.set(Double(index), at: index)
                        if round % 10 == 0 { most = max(most, link.unsentPlaces) }
                    }
                    return most
                }
            }
            return try await group.reduce(0) { max($0, $1) }
        }
        #expect(most > 8 && most <= 256, "\(most)")
    }
}
