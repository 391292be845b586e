module modelyard/crds

go 1.26.0

require (
	github.com/argoproj/argo-cd/v3 v3.2.11
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
