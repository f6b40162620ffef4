// What a stat tells of mapping: how an allocation was made, and what clients have of it now.

import Glibc
import Smalloc
import Testing
import TestSupport

@Suite("What a stat tells", .timed)
struct StatTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("maps that are out are told, and those that are gone are not", arguments: [10, 100_000])
    func maps(_ length: Int) async throws {
        let daemon = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(length, named: name, .double)
        let b = try await daemon.open(name)
        #expect(try a.stat().maps == .none && !a.stat().isShared && !a.stat().isShareable)
        #expect(try a.stat().owner == getuid())
        var read: Smalloc.Mapping<Double>? = try a.map(writable: false)
        #expect(try a.stat().maps == .readOnly)
        #expect(try await b.stat().maps == .readOnly)
        var write: Smalloc.Mapping<Double>? = try await b.map()
        write?[1] = 2
        #expect(try smalloc.stat(name).maps == .writable)
        #expect(try await daemon.stat(name).maps == .writable)
        #expect(read?[1] == 2)
        write = nil
        #expect(try smalloc.stat(name).maps == .readOnly)
        read = nil
        let stat = try smalloc.stat(name)
        #expect(stat.maps == .none && stat.isShared && !stat.isFrozen && !stat.isDescribed)
        try smalloc.freeze(name)
        #expect(try await b.stat().isFrozen && a.stat().isFrozen)
        try smalloc.dispose(named: name)
        #expect("\(Smalloc.Stat.Maps.none) \(Smalloc.Stat.Maps.writable)" == "none write")
        #expect("\(Smalloc.Stat.Maps(rawValue: 9))" == "maps9")
    }

    @Test("what is made shareable is so, on both faces and in every way to make it")
    func shareable() async throws {
        let daemon = try await SharedDaemon.connectAsync()
        for shareable in [true, false] {
            func check(_ stat: Smalloc.Stat, described: Bool = false, _ line: Int = #line) {
                #expect(stat.isShareable == shareable, "line \(line)")
                #expect(stat.isDescribed == described, "line \(line)")
            }
            let name = SharedDaemon.name()
            check(try smalloc.alloc(9, shareable: shareable).stat())
            check(try smalloc.alloc(9, 8, shareable: shareable).stat())
            check(
                try smalloc.alloc(9, named: "\(name)/a", .int64, shareable: shareable).stat())
            check(
                try smalloc.alloc(shape: [3, 3], metadata: [1], shareable: shareable).stat(),
                described: true)
            check(
                try smalloc.alloc(9, metadata: [1], shareable: shareable).stat(), described: true)
            try smalloc.create("\(name)/b", 9, shape: [9], shareable: shareable)
            check(try smalloc.stat("\(name)/b"), described: true)
            let holder = Holder()
            try smalloc.alloc(9, holder, .float, shareable: shareable)
            check(try #require(holder.allocation).stat())
            let other = Holder()
            try smalloc.alloc(9, other, 7, named: "\(name)/c", shareable: shareable)
            check(try smalloc.stat("\(name)/c"))
            check(try await daemon.alloc(9, .bool, shareable: shareable).stat())
            check(
                try await daemon.alloc(9, named: "\(name)/d", shareable: shareable).stat())
            check(
                try await daemon.alloc(shape: [9], shareable: shareable).stat(), described: true)
            check(
                try await daemon.alloc(9, metadata: [1], shareable: shareable).stat(),
                described: true)
            for entry in try smalloc.list("\(name)/") { try smalloc.dispose(named: entry.name) }
        }
    }

    private final class Holder: Smalloc.Holder { var allocation: Allocation? }
}
