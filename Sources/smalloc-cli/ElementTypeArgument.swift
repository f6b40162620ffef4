// An element type as it stands on the command line.

import ArgumentParser
import Smalloc

/// A type's name in any case, or its number, 1 to 16.
///
/// Any word will do here: that it is no type is a TypeError, as when the daemon finds it out.
struct ElementTypeArgument: ExpressibleByArgument {
    /// As typed.
    let word: String

    init?(argument: String) { word = argument }

    /// The type.
    ///
    /// - Throws: `.unknownType`.
    func type() throws(SmallocError) -> ElementType {
        guard let type = ElementType(named: word) else { throw .unknownType(word) }
        return type
    }

    static let allValueStrings = ElementType.allCases.map { $0.name.lowercased() }

    // Only types that list their cases to the parser get this by themselves.
    static let defaultCompletionKind = CompletionKind.list(allValueStrings)
}
