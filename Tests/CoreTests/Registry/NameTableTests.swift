import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Name table", .timed)
struct NameTableTests {
    private static let budget = MemoryBudget(limits: SharedLimits(Limits()))
    private static let mappings = MappingPool(budget: budget, cleanSizeMax: 0)

    private func make(_ name: String) -> Allocation {
        Array(name.utf8).withUnsafeBytes {
            Allocation.make(
                name: $0, type: .uint8, size: 0, created: 0, owner: 0,
                mappings: NameTableTests.mappings)!
        }
    }

    private func destroy(_ allocation: Allocation) {
        _ = allocation.destroy(mappings: NameTableTests.mappings)
    }

    private func find(
        _ table: borrowing NameTable, _ name: String, tag: UInt64
    ) -> Allocation? {
        Array(name.utf8).withUnsafeBytes { table.find($0, tag: tag) }
    }

    /// How tags are spread: all different, a few, or one for all.
    enum Tags: CaseIterable, Sendable {
        case spread, few, equal, last

        func tag(_ number: Int) -> UInt64 {
            switch self {
            case .spread: (UInt64(number) &* 0x9E37_79B9_7F4A_7C15) >> 48
            case .few: UInt64(number % 3) * 30_000
            case .equal: 777
            case .last: 0xFFFF - UInt64(number % 2)
            }
        }
    }

    @Test("it does what a dictionary does, over growth and removal", arguments: Tags.allCases)
    func model(_ tags: Tags) {
        var random = SplitMix(for: "name table \(tags)")
        let names = tags == .spread ? 2000 : 150
        let steps = tags == .spread ? 12_000 : 3000
        var table = NameTable(NameTableTests.mappings.blocks)
        var model: [Int: Allocation] = [:]
        for step in 0..<steps {
            let number = Int(random.next() % UInt64(names))
            let name = "n\(number)"
            let tag = tags.tag(number)
            let found = find(table, name, tag: tag)
            #expect(found == model[number])
            let growing = step % 2000 < 1300
            if let allocation = model[number] {
                guard !growing || random.next() % 4 == 0 else { continue }
                let removed = table.remove(allocation, tag: tag)
                #expect(removed)
                let again = table.remove(allocation, tag: tag)
                #expect(!again)
                destroy(allocation)
                model[number] = nil
            } else {
                let allocation = make(name)
                let inserted = table.insert(allocation, tag: tag)
                #expect(inserted)
                model[number] = allocation
            }
            let count = table.count
            #expect(count == model.count)
        }
        var seen: Set<String> = []
        for index in 0..<table.slotCount {
            guard let allocation = table.allocation(at: index) else { continue }
            let isNew = seen.insert(String(decoding: allocation.name, as: UTF8.self)).inserted
            #expect(isNew)
        }
        #expect(seen == Set(model.keys.map { "n\($0)" }))
        for (number, allocation) in model {
            let found = find(table, "n\(number)", tag: tags.tag(number))
            #expect(found == allocation)
        }
        for allocation in model.values { destroy(allocation) }
    }

    @Test("what is looked at ahead of time is where a search begins, and the allocation it finds")
    func ahead() {
        var table = NameTable(NameTableTests.mappings.blocks)
        #expect(table.view == 0 && table.likelyAddress(tag: 1) == 0)
        var made: [Allocation] = []
        var tags: Set<UInt64> = []
        for number in 0..<20_000 {
            let tag = Tags.spread.tag(number)
            let allocation = make("n\(number)")
            made.append(allocation)
            let inserted = table.insert(allocation, tag: tag)
            #expect(inserted)
            tags.insert(tag)
            guard number % 97 == 0 else { continue }
            let view = table.view
            let address = NameTable.firstSlot(of: view, tag: tag)
            let slot = UnsafePointer<UInt64>(bitPattern: address)?.pointee ?? 0
            #expect(slot != 0)
            let index = (Int(address) - Int(view & 0xFFFF_FFFF_FFFF)) / 8
            #expect(index >= 0 && index < table.slotCount)
            let there = table.allocation(at: index)
            #expect(
                there?.block == UnsafeMutableRawPointer(bitPattern: UInt(slot & 0xFFFF_FFFF_FFFF)))
        }
        // The first of each tag is where its search ends; few are too far from where it begins.
        var found = 0
        var seen: Set<UInt64> = []
        for (number, allocation) in made.enumerated() {
            let tag = Tags.spread.tag(number)
            let address = table.likelyAddress(tag: tag)
            guard seen.insert(tag).inserted, address != 0 else { continue }
            #expect(address == UInt(bitPattern: allocation.block))
            found += 1
        }
        #expect(found * 100 > tags.count * 95)
        for allocation in made { destroy(allocation) }
    }

    @Test("a table that lost nearly all its names gives its memory back")
    func shrinks() {
        var table = NameTable(NameTableTests.mappings.blocks)
        let made = (0..<20_000).map { make("n\($0)") }
        for (number, allocation) in made.enumerated() {
            _ = table.insert(allocation, tag: Tags.spread.tag(number))
        }
        let most = table.slotCount
        for (number, allocation) in made.enumerated() {
            let removed = table.remove(allocation, tag: Tags.spread.tag(number))
            #expect(removed)
            if number % 1000 == 0, number + 1 < made.count {
                let name = "n\(number + 1)"
                let found = find(table, name, tag: Tags.spread.tag(number + 1))
                #expect(found == made[number + 1])
            }
            destroy(allocation)
        }
        let least = table.slotCount
        #expect(most >= 20_000 && least <= 64)
    }

    @Test("a name is added once, and taken once")
    func addAndTake() {
        var table = NameTable(NameTableTests.mappings.blocks)
        let names = (0..<3000).map { Array("n\($0)".utf8) }
        for (number, name) in names.enumerated() {
            // Few tags, so that names stand in each other's way.
            let tag = UInt64(number % 50) * 1300
            let allocation = make("n\(number)")
            let first = name.withUnsafeBytes { table.add(allocation, $0, tag: tag) }
            let second = name.withUnsafeBytes { table.add(allocation, $0, tag: tag) }
            #expect(first == .added && second == .taken)
        }
        for (number, name) in names.enumerated() {
            let tag = UInt64(number % 50) * 1300
            let other = name.withUnsafeBytes { table.take($0, tag: tag + 1) }
            #expect(other == nil)
            let taken = name.withUnsafeBytes { table.take($0, tag: tag) }
            #expect(taken.map { Array($0.name) } == name)
            let again = name.withUnsafeBytes { table.take($0, tag: tag) }
            #expect(again == nil)
            if let taken { destroy(taken) }
        }
        let count = table.count
        #expect(count == 0)
    }

    @Test("an empty table finds and removes nothing")
    func empty() {
        var table = NameTable(NameTableTests.mappings.blocks)
        let found = find(table, "a", tag: 0)
        #expect(found == nil)
        let allocation = make("a")
        let removed = table.remove(allocation, tag: 0)
        #expect(!removed)
        #expect(table.allocation(at: 0) == nil)
        destroy(allocation)
    }

    @Test("names that start alike, and names of 1 to 255 bytes, are told apart")
    func similar() {
        var table = NameTable(NameTableTests.mappings.blocks)
        let names = (1...255).map { String(repeating: "x", count: $0) }
        let made = names.map { make($0) }
        for allocation in made { _ = table.insert(allocation, tag: 5) }
        for (name, allocation) in zip(names, made) {
            let found = find(table, name, tag: 5)
            #expect(found == allocation)
            let otherTag = find(table, name, tag: 6)
            #expect(otherTag == nil)
        }
        let longer = find(table, String(repeating: "x", count: 256), tag: 5)
        #expect(longer == nil)
        for allocation in made { destroy(allocation) }
    }
}
