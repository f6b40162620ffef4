// The limits that all threads share: an update reaches every one of them.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Shared limits", .timed)
struct SharedLimitsTests {
    /// Limits that differ from the defaults and from each other in every field.
    private func changed(by step: UInt64) -> Limits {
        var limits = Limits()
        limits.memorySizeMax = 1001 + step
        limits.lengthSizeMax = 1002 + step
        limits.allocationsMax = 1003 + step
        limits.connectionsMax = 1004 + step
        limits.frameSizeMax = 1005 + step
        limits.requestsInFlightMax = 1006 + step
        limits.handlesMax = 1007 + step
        limits.outputSizeMax = 1008 + step
        limits.lineSizeMax = 1009 + step
        limits.nameSizeMax = 10 + step
        limits.idleTimeoutMilliseconds = 1011 + step
        limits.requestTimeoutMilliseconds = 1012 + step
        return limits
    }

    private func values(_ limits: Limits) -> [UInt64?] {
        Mirror(reflecting: limits).children.map { $0.value as? UInt64 }
    }

    @Test("an update changes every limit, and each one alone")
    func update() {
        let (first, second) = (changed(by: 0), changed(by: 100))
        let defaults = values(Limits())
        #expect(!defaults.contains(nil))
        for (index, value) in values(first).enumerated() {
            #expect(value != defaults[index], "a field that this test does not change")
        }
        #expect(Set(values(first)).count == defaults.count)

        let shared = SharedLimits(first)
        #expect(shared.snapshot == first)
        shared.update(second)
        #expect(shared.snapshot == second)
        shared.update(Limits())
        #expect(shared.snapshot == Limits())
    }

    @Test("each limit is told by its own name")
    func names() {
        let limits = changed(by: 0)
        let shared = SharedLimits(Limits())
        shared.update(limits)
        #expect(shared.memorySizeMax == limits.memorySizeMax)
        #expect(shared.lengthSizeMax == limits.lengthSizeMax)
        #expect(shared.allocationsMax == limits.allocationsMax)
        #expect(shared.connectionsMax == limits.connectionsMax)
        #expect(shared.frameSizeMax == limits.frameSizeMax)
        #expect(shared.requestsInFlightMax == limits.requestsInFlightMax)
        #expect(shared.handlesMax == limits.handlesMax)
        #expect(shared.outputSizeMax == limits.outputSizeMax)
        #expect(shared.lineSizeMax == limits.lineSizeMax)
        #expect(shared.nameSizeMax == limits.nameSizeMax)
        #expect(shared.idleTimeoutMilliseconds == limits.idleTimeoutMilliseconds)
        #expect(shared.requestTimeoutMilliseconds == limits.requestTimeoutMilliseconds)
    }

    @Test("sizes beyond what a process can address mean that much")
    func bounds() {
        var limits = Limits()
        limits.lengthSizeMax = .max
        limits.frameSizeMax = .max
        limits.outputSizeMax = .max
        limits.lineSizeMax = .max
        let shared = SharedLimits(limits)
        for _ in 0..<2 {
            #expect(shared.lengthSizeMax == 1 << 47)
            #expect(shared.frameSizeMax == 0xFFFF_FFFF)
            #expect(shared.outputSizeMax == 1 << 47)
            #expect(shared.lineSizeMax == 1 << 47)
            shared.update(limits)
        }
    }
}
