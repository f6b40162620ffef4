// What the daemon's memory is, as dumbly as it can be said: dictionaries of arrays of bytes.

import SmallocWire

/// A model of all allocations and of the handles of each connection. Each operation changes the
/// model and says what must be answered.
struct MemoryModel {
    struct Entry {
        var type: UInt8
        var bytes: [UInt8]
        var name: String?
        /// The connection that an anonymous one belongs to.
        var owner: Int
        var description: Description?
    }

    /// What a user said of an allocation.
    struct Description {
        var shape: [UInt64]?
        var metadata: [UInt8]

        /// As it follows the name of an alloc.
        var payload: [UInt8] {
            let rank = shape.map { UInt64($0.count) } ?? .max
            let size = UInt16(metadata.count)
            return numbers(rank) + (shape ?? []).flatMap { numbers($0) } + numbers(0)
                + [UInt8(truncatingIfNeeded: size), UInt8(size >> 8)] + metadata
        }

        /// What stat tells behind the owner, of so many elements.
        func told(_ length: Int) -> [UInt8] {
            let product = shape?.reduce(1, *)
            let shape = product == UInt64(length) ? shape : nil
            let dimensions = (shape ?? []) + Array(repeating: 0, count: 8 - (shape?.count ?? 0))
            return numbers(shape.map { UInt64($0.count) } ?? .max)
                + dimensions.flatMap { numbers($0) } + numbers(UInt64(metadata.count)) + metadata
        }
    }

    /// What an operation means: a handle of the connection, or a name.
    enum Target {
        case handle(UInt32)
        case name(String)
    }

    /// Why an operation is refused, as `Reply.outcome` has it.
    struct Refusal: Error {
        var outcome: String
        init(_ outcome: String) { self.outcome = outcome }
    }

    let lengthMax: Int
    var entries: [Int: Entry] = [:]
    private(set) var names: [String: Int] = [:]
    /// By connection, then by handle; what is gone stays open.
    private(set) var handles: [[UInt32: Int]]
    private var nextID = 0

    init(connections: Int, lengthMax: Int) {
        handles = Array(repeating: [:], count: connections)
        self.lengthMax = lengthMax
    }

    static func isName(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && name.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    static func size(of type: UInt8) -> Int? {
        [
            1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8, 9: 1, 10: 8, 11: 8, 12: 2, 13: 2, 14: 1,
            15: 8, 16: 16,
        ][type]
    }

    static let badName = Refusal(
        "invalidName TypeError: a name is 1 to 255 bytes of printable ASCII without spaces")
    static let noData = Refusal("noData Error: object has no external array data")
    static let exists = Refusal(
        "alreadyExists TypeError: object already has external array data")

    private static func range(_ text: String) -> Refusal {
        Refusal("outOfRange RangeError: \(text)")
    }

    // MARK: Operations

    /// Sizes in bytes, as binary mode has them. Gives the new entry's number.
    mutating func alloc(
        _ name: String?, _ type: UInt8, _ size: UInt64, _ description: Description? = nil,
        connection: Int
    ) throws(Refusal) -> Int {
        if let name, !MemoryModel.isName(name) { throw MemoryModel.badName }
        guard let unit = MemoryModel.size(of: type) else {
            throw Refusal("unknownType TypeError: unknown external array type: \(type)")
        }
        if size > UInt64(lengthMax) { throw Refusal("tooLarge RangeError: n > kMaxLength") }
        if Int(size) % unit != 0 {
            throw Refusal("invalidArgument TypeError: the size is not a whole number of elements")
        }
        if let shape = description?.shape, shape.reduce(1, *) != size / UInt64(unit) {
            throw Refusal(
                "invalidArgument TypeError: the shape is not that of \(size / UInt64(unit)) elements"
            )
        }
        if let name, names[name] != nil { throw MemoryModel.exists }
        nextID += 1
        entries[nextID] = Entry(
            type: type, bytes: [UInt8](repeating: 0, count: Int(size)), name: name,
            owner: connection, description: description)
        if let name { names[name] = nextID }
        return nextID
    }

    mutating func opened(_ handle: UInt32, _ id: Int, connection: Int) {
        precondition(handles[connection][handle] == nil && handle != 0, "handle \(handle) is open")
        handles[connection][handle] = id
    }

    func find(
        _ target: Target, connection: Int, missing: Refusal = noData
    ) throws(Refusal) -> Int {
        switch target {
        case .handle(let handle):
            guard let id = handles[connection][handle], entries[id] != nil else { throw missing }
            return id
        case .name(let name):
            guard MemoryModel.isName(name) else { throw MemoryModel.badName }
            guard let id = names[name] else { throw missing }
            return id
        }
    }

    mutating func close(_ handle: UInt32, connection: Int) throws(Refusal) {
        guard let id = handles[connection].removeValue(forKey: handle) else {
            throw MemoryModel.noData
        }
        if let entry = entries[id], entry.name == nil { remove(id) }
    }

    private mutating func remove(_ id: Int) {
        if let name = entries[id]?.name { names[name] = nil }
        entries[id] = nil
    }

    mutating func dispose(_ target: Target, connection: Int) throws(Refusal) {
        let missing = Refusal("noData Error: obj has no external array data")
        remove(try find(target, connection: connection, missing: missing))
        if case .handle(let handle) = target { handles[connection][handle] = nil }
    }

    /// Where a range lies, after the checks.
    private func checked(_ id: Int, _ start: UInt64, _ count: UInt64) throws(Refusal) -> Range<Int>
    {
        let length = UInt128(entries[id]?.bytes.count ?? 0)
        if UInt128(start) > length { throw MemoryModel.range("start > length") }
        if UInt128(start) + UInt128(count) > length {
            throw MemoryModel.range("start + count > length")
        }
        return Int(start)..<Int(start) + Int(count)
    }

    func read(
        _ target: Target, _ ranges: [(UInt64, UInt64)], connection: Int
    ) throws(Refusal) -> [UInt8] {
        let id = try find(target, connection: connection)
        var result: [UInt8] = []
        for (start, count) in ranges {
            let range = try checked(id, start, count)
            result += entries[id]?.bytes[range] ?? []
        }
        return result
    }

    mutating func write(
        _ target: Target, _ ranges: [(UInt64, UInt64)], _ data: [UInt8], connection: Int
    ) throws(Refusal) {
        let id = try find(target, connection: connection)
        var places: [Range<Int>] = []
        for (start, count) in ranges { places.append(try checked(id, start, count)) }
        var at = 0
        for place in places {
            entries[id]?.bytes.replaceSubrange(place, with: data[at..<at + place.count])
            at += place.count
        }
    }

    mutating func fill(
        _ target: Target, _ start: UInt64, _ count: UInt64, _ pattern: [UInt8], connection: Int
    ) throws(Refusal) {
        let id = try find(target, connection: connection)
        guard (1...64).contains(pattern.count) else {
            throw Refusal("invalidArgument TypeError: a fill pattern has 1 to 64 bytes")
        }
        let place = try checked(id, start, count)
        guard place.count % pattern.count == 0 else {
            throw Refusal("invalidArgument TypeError: the size is not a multiple of the pattern's")
        }
        for index in place {
            entries[id]?.bytes[index] = pattern[(index - place.lowerBound) % pattern.count]
        }
    }

    mutating func copy(
        _ source: Target, _ start: UInt64, _ dest: Target, _ destStart: UInt64, _ count: UInt64,
        connection: Int
    ) throws(Refusal) {
        if case .name(let name) = dest, !MemoryModel.isName(name) { throw MemoryModel.badName }
        let from = try find(
            source, connection: connection,
            missing: Refusal("noData Error: source has no external array data"))
        let onto = try find(
            dest, connection: connection,
            missing: Refusal("noData Error: dest has no external array data"))
        let (start, destStart, count) = (UInt128(start), UInt128(destStart), UInt128(count))
        let length = UInt128(entries[from]?.bytes.count ?? 0)
        let destLength = UInt128(entries[onto]?.bytes.count ?? 0)
        if count > length { throw MemoryModel.range("copy_length > source_length") }
        if count > destLength { throw MemoryModel.range("copy_length > dest_length") }
        if start > length { throw MemoryModel.range("source_start > source_length") }
        if destStart > destLength { throw MemoryModel.range("dest_start > dest_length") }
        if start + count > length {
            throw MemoryModel.range("source_start + copy_length > source_length")
        }
        if destStart + count > destLength {
            throw MemoryModel.range("dest_start + copy_length > dest_length")
        }
        let bytes = entries[from]?.bytes[Int(start)..<Int(start + count)] ?? []
        entries[onto]?.bytes.replaceSubrange(
            Int(destStart)..<Int(destStart + count), with: bytes)
    }

    mutating func truncate(_ target: Target, _ size: UInt64, connection: Int) throws(Refusal) {
        let missing = Refusal("noData TypeError: object has no external array data")
        let id = try find(target, connection: connection, missing: missing)
        if size > UInt64(lengthMax) {
            throw Refusal("tooLarge RangeError: truncate length is bigger than kMaxLength")
        }
        let entry = entries[id]!
        if Int(size) > entry.bytes.count {
            throw MemoryModel.range("truncate length is bigger than current one")
        }
        guard Int(size) % MemoryModel.size(of: entry.type)! == 0 else {
            throw Refusal("invalidArgument TypeError: the size is not a whole number of elements")
        }
        entries[id]?.bytes.removeLast(entry.bytes.count - Int(size))
    }

    mutating func rename(
        _ target: Target, _ name: String, replaces: Bool, connection: Int
    ) throws(Refusal) {
        guard MemoryModel.isName(name) else { throw MemoryModel.badName }
        let id = try find(target, connection: connection)
        if let other = names[name] {
            if other == id { return }
            if !replaces { throw MemoryModel.exists }
            remove(other)
        }
        if let old = entries[id]?.name { names[old] = nil }
        entries[id]?.name = name
        names[name] = id
    }

    mutating func endConnection(_ connection: Int) {
        for handle in handles[connection].keys { try? close(handle, connection: connection) }
    }
}
