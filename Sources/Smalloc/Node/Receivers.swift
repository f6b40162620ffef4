// Where receivers keep their allocations: in themselves, or, for any other object, in a table.

internal import SmallocSystem
internal import SmallocWire

/// Finds, gives and takes the allocation of an object of any class.
enum Receivers {
    /// What an `AnyObject` really is.
    ///
    /// Swift boxes values that are cast to it.
    enum Kind { case object, array, value }

    static func kind(of object: AnyObject) -> Kind {
        if object is any Smalloc.Holder { return .object }
        if object is [Any] { return .array }
        // A value that is cast to AnyObject is boxed, or with Foundation about becomes an NSNumber
        // or an NSString, which this language takes for numbers and strings.
        if object is Int || object is Double || object is Bool || object is String {
            return .value
        }
        // So is nil, which Foundation makes an NSNull.
        let name = String(reflecting: Swift.type(of: object))
        return name.hasSuffix(".__SwiftValue") || name == "Foundation.NSNull" ? .value : .object
    }

    static func allocation(of object: AnyObject) -> Allocation? {
        if let allocation = object as? Allocation { return allocation.allocation }
        if let holder = object as? any Smalloc.Holder { return holder.allocation }
        return Table.shared.find(object)
    }

    /// The same, refusing values that were cast to an object.
    static func allocation(
        of object: AnyObject, orThrow error: SmallocError
    ) throws(SmallocError) -> Allocation? {
        if let allocation = object as? Allocation { return allocation }
        if let holder = object as? any Smalloc.Holder { return holder.allocation }
        guard kind(of: object) == .object else { throw error }
        return Table.shared.find(object)
    }

    static func give(_ allocation: Allocation, to object: AnyObject) {
        if let holder = object as? any Smalloc.Holder {
            holder.allocation = allocation
        } else {
            Table.shared.set(allocation, for: object)
        }
    }

    /// Lets a receiver forget a disposed allocation.
    ///
    /// Holders may keep the empty object.
    static func take(from object: AnyObject) {
        if object is any Smalloc.Holder { return }
        Table.shared.remove(object)
    }

    /// Allocations of objects that have no place for them.
    ///
    /// Entries whose object is gone are swept out, with their allocations, when entries are added:
    /// at each up to 512 of them, then whenever their number has doubled.
    private final class Table: @unchecked Sendable {
        static let shared = Table()

        private struct Entry {
            weak var object: AnyObject?
            let allocation: Allocation
        }

        private let lock = Lock()
        private var entries: [ObjectIdentifier: Entry] = [:]
        private var sweepAt = Table.few
        private static let few = 512

        func find(_ object: AnyObject) -> Allocation? {
            lock.withLock {
                // An address may be a dead object's that another one got.
                guard let entry = entries[ObjectIdentifier(object)], entry.object === object
                else { return nil }
                return entry.allocation
            }
        }

        func set(_ allocation: Allocation, for object: AnyObject) {
            var dead: [Allocation] = []  // Released after the lock: a release runs other code.
            lock.withLock {
                if entries.count < Table.few || entries.count >= sweepAt {
                    for (key, entry) in entries where entry.object == nil {
                        dead.append(entry.allocation)
                        entries[key] = nil
                    }
                    sweepAt = max(Table.few, entries.count * 2)
                }
                let key = ObjectIdentifier(object)
                if let old = entries[key] { dead.append(old.allocation) }
                entries[key] = Entry(object: object, allocation: allocation)
            }
        }

        func remove(_ object: AnyObject) {
            let old = lock.withLock {
                entries.removeValue(forKey: ObjectIdentifier(object))?.allocation
            }
            _ = old
        }
    }
}
