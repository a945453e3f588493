// In place of config.go and extension.go of cmd/jaeger/internal/extension/jaegerstorage: memory alone,
// since the drivers of the other storages are most of what a build takes.

package jaegerstorage

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension"

	v1 "github.com/jaegertracing/jaeger/internal/storage/v1"
	v1memory "github.com/jaegertracing/jaeger/internal/storage/v1/memory"
	"github.com/jaegertracing/jaeger/internal/storage/v2/api/tracestore"
	"github.com/jaegertracing/jaeger/internal/storage/v2/memory"
	"github.com/jaegertracing/jaeger/internal/telemetry"
)

// Config names the storages.
type Config struct {
	TraceBackends map[string]TraceBackend `mapstructure:"backends"`
}

// TraceBackend is one of them.
type TraceBackend struct {
	Memory *v1memory.Configuration `mapstructure:"memory"`
}

// Extension is how others find a storage.
type Extension interface {
	extension.Extension
	TraceStorageFactory(name string) (tracestore.Factory, bool)
}

type storageExt struct {
	config    *Config
	telset    component.TelemetrySettings
	factories map[string]tracestore.Factory
}

func newStorageExt(config *Config, telset component.TelemetrySettings) *storageExt {
	return &storageExt{config, telset, make(map[string]tracestore.Factory)}
}

func (s *storageExt) Start(_ context.Context, host component.Host) error {
	for name, backend := range s.config.TraceBackends {
		if backend.Memory == nil {
			return fmt.Errorf("storage '%s': only memory is built in", name)
		}
		factory, err := memory.NewFactory(*backend.Memory, telemetry.FromOtelComponent(s.telset, host))
		if err != nil {
			return err
		}
		s.factories[name] = factory
	}
	return nil
}

func (*storageExt) Shutdown(context.Context) error {
	return nil
}

func (s *storageExt) TraceStorageFactory(name string) (tracestore.Factory, bool) {
	factory, ok := s.factories[name]
	return factory, ok
}

// GetTraceStoreFactory finds a storage by its name.
func GetTraceStoreFactory(name string, host component.Host) (tracestore.Factory, error) {
	for id, one := range host.GetExtensions() {
		if storage, ok := one.(Extension); ok && id.Type() == componentType {
			if factory, ok := storage.TraceStorageFactory(name); ok {
				return factory, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no storage '%s'", name)
}

// GetMetricStorageFactory finds none: there is no storage of metrics.
func GetMetricStorageFactory(name string, _ component.Host) (v1.MetricStoreFactory, error) {
	return nil, fmt.Errorf("there is no storage '%s' of metrics", name)
}
