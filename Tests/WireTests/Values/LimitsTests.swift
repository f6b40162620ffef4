import SmallocWire
import Testing
import TestSupport

@Suite("Limits", .timed)
struct LimitsTests {
    /// Limits that all differ from each other and from the defaults.
    private var unusual: Limits {
        var limits = Limits()
        limits.memorySizeMax = 101
        limits.lengthSizeMax = 102
        limits.allocationsMax = 103
        limits.connectionsMax = 104
        limits.frameSizeMax = 105
        limits.requestsInFlightMax = 106
        limits.handlesMax = 107
        limits.outputSizeMax = 108
        limits.lineSizeMax = 109
        limits.idleTimeoutMilliseconds = 110
        limits.requestTimeoutMilliseconds = 111
        limits.nameSizeMax = 112
        return limits
    }

    @Test("limits go through a greeting unchanged")
    func roundTrip() {
        #expect(Limits(helloFields: unusual.helloFields) == unusual)
        #expect(Limits(helloFields: Limits().helloFields) == Limits())
    }

    @Test("the greeting's order is that of the specification")
    func order() {
        #expect(
            unusual.helloFields == [
                1, 1, 127, 102, 101, 103, 104, 105, 106, 107, 108, 109, 110, 111, 65_536, 112, 1024,
                4096, 0,
            ])
    }

    @Test("a shorter greeting leaves defaults, a longer one is no trouble")
    func otherLengths() {
        let fields = unusual.helloFields
        for count in 0...fields.count {
            let limits = Limits(helloFields: Array(fields.prefix(count)))
            #expect(limits.lengthSizeMax == (count > 3 ? 102 : Limits().lengthSizeMax))
            #expect(limits.requestTimeoutMilliseconds == (count > 13 ? 111 : 30_000))
        }
        #expect(Limits(helloFields: fields + [1, 2, 3]) == unusual)
    }
}
