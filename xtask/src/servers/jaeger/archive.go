// In place of internal/storage/v1/factory, which knows every storage there is.

package storage

import "github.com/jaegertracing/jaeger/internal/storage/v1/api/spanstore"

// ArchiveStorage is what the query service asks for and does not need.
type ArchiveStorage struct {
	Reader spanstore.Reader
	Writer spanstore.Writer
}
