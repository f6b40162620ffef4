// Where the project's files are: the tests read protocol/ from the source tree.

public import Foundation

/// Paths in the source tree and the build folder.
public enum ProjectFolder {
    /// The folder that holds Package.swift.
    public static let root: URL = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// A file of the `protocol` folder.
    public static func contents(ofProtocolFile path: String) throws -> Data {
        try Data(contentsOf: root.appendingPathComponent("protocol").appendingPathComponent(path))
    }

    /// An executable product, beside the test bundle. `SMALLOC_BUILD` names another build folder.
    public static func executable(_ name: String) -> String {
        let folder =
            ProcessInfo.processInfo.environment["SMALLOC_BUILD"]
            ?? (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            .map { URL(fileURLWithPath: $0).deletingLastPathComponent().path }
            ?? "."
        return folder + "/" + name
    }
}
