// Pins Cluster API, whose CustomResourceDefinitions the suite `nodepool` installs. Nothing of it is built: no `go mod tidy`.
module migpool.dev/tests/e2e/cluster-api

go 1.26.0

require sigs.k8s.io/cluster-api v1.14.2
