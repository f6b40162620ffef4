// Subcommands that make, show, shorten, freeze and rename allocations.

import ArgumentParser
import Smalloc

struct Alloc: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Allocate zero-filled memory under a name.",
        discussion: """
            With --shape the length may be left out. Shape and metadata are kept by the daemon, \
            and told by stat. What is --shareable is in memory that programs can map from the \
            start; else the first map moves it there.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "1 to 255 printable characters without spaces; / separates namespaces.")
    var name: String
    @Argument(help: "Elements.") var length: LengthArgument?
    @Argument(
        help: "The elements' type: \(ElementTypeArgument.allValueStrings.joined(separator: ", ")).")
    var type: ElementTypeArgument?
    @Option(
        help: ArgumentHelp(
            "Dimensions whose product is the length, as 512x256, or scalar.", valueName: "shape"))
    var shape: ShapeArgument?
    @Option(
        help: ArgumentHelp(
            "Up to 256 bytes of your own: hex:…, base64:…, or text.", valueName: "metadata"))
    var meta: MetadataArgument?
    @Flag(help: "In memory that programs can map, from the start.") var shareable = false
    @Option(
        help: ArgumentHelp(
            "It ends when no program has used it for so long: 500ms, 30s, 10m, 2h, 1d.",
            valueName: "time"))
    var lease: LeaseArgument?
    @Flag(help: "Succeed where there is one of that name, type and length, or shape.")
    var existOk = false

    var counts: [(name: String, count: ElementCount?)] { [("LENGTH", length?.count)] }
    var streams: [Stream] { common.json ? [.output] : [] }

    func validate() throws {
        guard let length else {
            if shape != nil { return }
            throw ValidationError("Missing expected argument '<length>'")
        }
        // Where a shape says the length, what stands in its place may be the type.
        if length.count == nil, shape == nil || type != nil {
            throw ValidationError(
                "The value '\(length.word)' is invalid for '<length>': a number is needed, as 4096 "
                    + "or 64K; units: \(ElementCount.units)")
        }
    }

    func run(_ daemon: Smalloc) throws {
        try about(name) {
            let word = length.flatMap { $0.count == nil ? $0.word : nil }
            let type = try (word.flatMap { ElementTypeArgument(argument: $0) } ?? type)?.type()
            let count = length?.count?.value ?? shape?.length ?? 0
            while true {
                do throws(SmallocError) {
                    return try daemon.create(
                        name, count, type ?? .uint8, shape: shape?.shape,
                        metadata: meta?.bytes ?? [], shareable: shareable,
                        lease: lease?.lease)
                } catch {
                    guard existOk, error.status == .alreadyExists else { throw error }
                    // Gone since: it is made after all.
                    guard let found = try daemon.stat([name])[0] else { continue }
                    guard found.type == type ?? .uint8, found.length == count,
                        shape == nil || found.shape == shape?.shape
                    else { throw error }
                    return
                }
            }
        }
        guard common.json else { return }
        try tell(try daemon.stat(name))
    }
}

struct Stat: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what the daemon knows of allocations.",
        discussion: """
            flags: shareable, it was made to be mapped; leased; described, with a shape or \
            metadata; \
            frozen; shared, it is in memory that can be mapped. maps: whether programs have it \
            mapped now, for reading only (read) or for writing (write).
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Names.", completion: .allocation) var names: [String]

    var streams: [Stream] { [.output] }

    func run(_ daemon: Smalloc) throws {
        try forEach(names) { name in
            let stat = try daemon.stat(name)
            if common.json { return try tell(stat) }
            let flags = flagWords(stat)
            var rows: [(String, String)] = [
                ("name", name), ("type", stat.type.name), ("length", String(stat.length)),
                ("size", "\(stat.size) (\(humanSize(stat.size)))"),
                ("created", timestamp(stat.createdMilliseconds)),
                ("handles", String(stat.handles)), ("storage", "\(stat.storage)"),
                ("flags", flags.isEmpty ? "none" : flags.joined(separator: ",")),
                ("maps", "\(stat.maps)"),
            ]
            if let owner = stat.owner { rows.append(("owner", String(owner))) }
            if let shape = stat.shape { rows.append(("shape", shapeText(shape))) }
            if let lease = leaseText(stat) { rows.append(("lease", lease)) }
            if !stat.metadata.isEmpty { rows.append(("metadata", metadataText(stat.metadata))) }
            for (key, value) in rows {
                try Output.standard.write(
                    key + String(repeating: " ", count: 9 - key.count) + value + "\n")
            }
        }
    }
}

struct Truncate: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shorten an allocation.", discussion: "What lies beyond is gone.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "Elements that stay.", transform: ElementCount.parse) var length: ElementCount

    var counts: [(name: String, count: ElementCount?)] { [("LENGTH", length)] }

    func run(_ daemon: Smalloc) throws {
        try about(name) { try daemon.open(name).truncate(length.value) }
    }
}

struct Freeze: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make what allocations hold unchangeable.",
        discussion: """
            For good, and for everybody: who reads or maps them need not trust who wrote them. \
            They can still be renamed, replaced and removed. What a process has mapped for \
            writing, or writes at the time, is busy, and stays as it is.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Names.", completion: .allocation) var names: [String]

    func run(_ daemon: Smalloc) throws {
        try forEach(names) { try daemon.freeze($0) }
    }
}

struct Rename: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "mv", abstract: "Give an allocation another name.",
        discussion: """
            The new name must be free, unless --force is given: then the allocation takes the \
            place of the one that has it, which is disposed of. At no moment is there none of that \
            name.
            """, aliases: ["rename"])

    @OptionGroup var common: CommonOptions
    @Argument(help: "The name now.", completion: .allocation) var name: String
    @Argument(help: "The new name.") var newName: String
    @Flag(name: .shortAndLong, help: "Take the place of what has the new name.") var force = false

    func run(_ daemon: Smalloc) throws {
        try about("\(name) to \(newName)") {
            try hintingForce(force) { () throws(SmallocError) in
                try daemon.rename(name, to: newName, replacing: force)
            }
        }
    }
}

/// The time of a lease, 0 for that of a connection; nil: there is none.
private func leaseTime(_ stat: Smalloc.Stat) -> Duration? {
    switch stat.lease {
    case nil: nil
    case .connection: .zero
    case .idle(let time): time
    }
}

/// Prints one allocation as a line of JSON.
private func tell(_ stat: Smalloc.Stat) throws {
    let members: [(String, JSON)] = [
        ("name", stat.name.map(JSON.string) ?? .null), ("type", .string(stat.type.name)),
        ("length", .integer(stat.length)), ("size", .integer(stat.size)),
        ("createdMilliseconds", .integer(Int(stat.createdMilliseconds))),
        ("handles", .integer(stat.handles)), ("storage", .string("\(stat.storage)")),
        ("flags", .array(flagWords(stat).map(JSON.string))), ("maps", .string("\(stat.maps)")),
        ("owner", stat.owner.map { .integer(Int($0)) } ?? .null),
        ("leaseMilliseconds", JSON(milliseconds: leaseTime(stat))),
        ("leaseLeftMilliseconds", JSON(milliseconds: stat.leaseLeft)),
        ("shape", JSON(stat.shape)),
        (
            "metadata",
            stat.metadata.isEmpty ? .null : .string("base64:" + base64Text(stat.metadata))
        ),
    ]
    try Output.standard.write(JSON.object(members).text + "\n")
}

/// Rows as a table, columns two spaces apart.
///
/// - Parameters:
///   - rows: All of the same number of columns.
///   - right: Which columns are set to the right.
/// - Returns: A line each.
func tableText(_ rows: [[String]], right: [Bool]) -> String {
    let widths = right.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
        let cells = row.indices.map { column in
            let padding = String(repeating: " ", count: widths[column] - row[column].count)
            let isLast = column == row.count - 1
            return right[column] ? padding + row[column] : row[column] + (isLast ? "" : padding)
        }
        let line = cells.joined(separator: "  ")
        return line.prefix(line.count - line.reversed().prefix { $0 == " " }.count) + "\n"
    }.joined()
}
