#!/usr/bin/env python3
"""Writes Grafana's dashboards, roles/*/files/dashboard.json: dashboards [--check]."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh, VariableSort

ROOT = Path(__file__).resolve().parent.parent
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Where several clusters share a Prometheus, their series have this label; where one is alone, it has none, which .* takes too.
PLACE = 'cluster=~"$cluster", namespace=~"$namespace"'
OURS = f'{PLACE}, job=~"$job"'
SERVER = "{{namespace}} {{job}}"
GPUS = 'resource=~"nvidia_com_.*|amd_com_gpu|aws_amazon_com_neuron.*"'
PANELS_A_ROW = 3


def rate(metric: str, labels: str = OURS) -> str:
    """Give the increase of a counter per second."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def quantile(share: float, histogram: str, by: str = "namespace, job") -> str:
    """Give a quantile of a histogram, over all pods of a server."""
    return f"histogram_quantile({share}, sum by ({by}, le) ({rate(histogram + '_bucket')}))"


def mean(numerator: str, denominator: str, by: str = "namespace, job") -> str:
    """Give the mean of what two counters count, over all pods of a server."""
    return f"sum by ({by}) ({rate(numerator)}) / sum by ({by}) ({rate(denominator)})"


def target(expression: str, legend: str, name: str) -> prometheus.Dataquery:
    """Make one query of a panel."""
    return prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend).ref_id(name)


def panel(title: str, unit: str, *queries: tuple[str, str], what: str = "") -> timeseries.Panel:
    """Make a panel with lines: expression and legend of each query."""
    made = timeseries.Panel().title(title).description(what).datasource(SOURCE).unit(unit).min(0)
    made = made.height(8).span(24 // PANELS_A_ROW).fill_opacity(8)
    for index, (expression, legend) in enumerate(queries):
        made = made.with_target(target(expression, legend, chr(ord("A") + index)))
    return made


def number(title: str, unit: str, expression: str, what: str = "") -> stat.Panel:
    """Make a panel with one number for each server."""
    made = stat.Panel().title(title).description(what).datasource(SOURCE).unit(unit).height(5).span(4)
    return made.with_target(target(expression, "{{job}}", "A"))


def variable(name: str, label: str, query: str, every: str | None) -> dashboard.QueryVariable:
    """Make a variable with the values that a query finds; EVERY stands for all of them, or they are joined."""
    made = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE).multi(True).include_all(True)
    made = made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    made = made.current({"text": ["All"], "value": ["$__all"]})
    return made if every is None else made.all_value(every)


def served(metrics: tuple[str, ...], *labels: str) -> str:
    """Select the series of several metrics."""
    return f"{{{', '.join([f'__name__=~"{"|".join(metrics)}"', *labels])}}}"


def board(uid: str, title: str, what: str, *metrics: str, job: bool = True) -> dashboard.Dashboard:
    """Begin a dashboard, with the variables that all have; METRICS tell which servers there are."""
    made = dashboard.Dashboard(title).uid(f"modelyard-{uid}").description(what).tags(["modelyard"])
    made = made.refresh("1m").time("now-6h", "now").readonly()
    made = made.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    made = made.with_variable(variable("cluster", "Cluster", f"label_values({served(metrics)}, cluster)", ".*"))
    inside = served(metrics, 'cluster=~"$cluster"')
    made = made.with_variable(variable("namespace", "Namespace", f"label_values({inside}, namespace)", ".*"))
    if job:
        made = made.with_variable(variable("job", "Server", f"label_values({served(metrics, PLACE)}, job)", None))
    return made


def row(made: dashboard.Dashboard, title: str, *panels: object) -> dashboard.Dashboard:
    """Add a row of panels."""
    made = made.with_row(dashboard.Row(title))
    for one in panels:
        made = made.with_panel(one)
    return made


def vllm() -> dashboard.Dashboard:
    """Make the dashboard of vLLM, the judge among its servers."""
    made = board("vllm", "vLLM", "vLLM servers, the judge among them", "vllm:num_requests_running")
    each, pod = "sum by (namespace, job)", "{{job}} {{pod}}"
    completions = f'{OURS}, handler=~"/v1/(chat/)?completions"'
    made = row(
        made,
        "Now",
        number("Pods that answer", "none", f"{each} (up{{{OURS}}})"),
        number("Requests per second", "reqps", f"{each} ({rate('vllm:request_success_total')})"),
        number("Running", "none", f"{each} (vllm:num_requests_running{{{OURS}}})"),
        number("Waiting", "none", f"{each} (vllm:num_requests_waiting{{{OURS}}})"),
        number("KV cache in use", "percentunit", f"max by (namespace, job) (vllm:kv_cache_usage_perc{{{OURS}}})"),
        number("First token, 95 %", "s", quantile(0.95, "vllm:time_to_first_token_seconds")),
    )
    made = row(
        made,
        "Latency",
        *(
            panel(title, "s", *((quantile(share, name), f"{SERVER} {share:.0%}") for share in (0.5, 0.95, 0.99)))
            for title, name in (
                ("Time to the first token", "vllm:time_to_first_token_seconds"),
                ("Whole request", "vllm:e2e_request_latency_seconds"),
                ("Between two tokens", "vllm:inter_token_latency_seconds"),
            )
        ),
        *(
            panel(title, "s", (mean(f"{name}_sum", f"{name}_count"), SERVER), what=what)
            for title, name, what in (
                ("Waiting, mean", "vllm:request_queue_time_seconds", "Before the engine begins with a request."),
                ("Prefill, mean", "vllm:request_prefill_time_seconds", "Until the first token; grows with prompts."),
                ("Decode, mean", "vllm:request_decode_time_seconds", "From the first to the last token."),
            )
        ),
    )
    made = row(
        made,
        "Load",
        panel(
            "Requests by how they ended",
            "reqps",
            (
                f"sum by (namespace, job, finished_reason) ({rate('vllm:request_success_total')})",
                f"{SERVER} {{{{finished_reason}}}}",
            ),
            what="vLLM does not count those that clients give up.",
        ),
        panel(
            "Running and waiting",
            "none",
            (f"vllm:num_requests_running{{{OURS}}}", f"{pod} running"),
            (f"vllm:num_requests_waiting{{{OURS}}}", f"{pod} waiting"),
        ),
        panel(
            "Tokens per second",
            "none",
            (f"{each} ({rate('vllm:prompt_tokens_total')})", f"{SERVER} prompt"),
            (f"{each} ({rate('vllm:generation_tokens_total')})", f"{SERVER} generated"),
        ),
        panel(
            "Length of a request, 95 %",
            "none",
            (quantile(0.95, "vllm:request_prompt_tokens"), f"{SERVER} prompt"),
            (quantile(0.95, "vllm:request_generation_tokens"), f"{SERVER} answer"),
            what="In tokens.",
        ),
        panel("KV cache in use", "percentunit", (f"vllm:kv_cache_usage_perc{{{OURS}}}", pod)),
        panel(
            "Found in the prefix cache",
            "percentunit",
            (mean("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"), SERVER),
        ),
    )
    return row(
        made,
        "Errors",
        panel("Preemptions per second", "none", (rate("vllm:num_preemptions_total"), pod)),
        panel(
            "Answers by status",
            "reqps",
            (f"sum by (namespace, job, status) ({rate('http_requests_total')})", f"{SERVER} {{{{status}}}}"),
        ),
        panel(
            "Completions by status",
            "reqps",
            (
                f"sum by (namespace, job, status) ({rate('http_requests_total', completions)})",
                f"{SERVER} {{{{status}}}}",
            ),
            what="Who asks for an adapter that is missing is answered 4xx.",
        ),
    )


def triton() -> dashboard.Dashboard:
    """Make the dashboard of Triton."""
    made = board("triton", "Triton", "Triton servers, model by model", "nv_inference_request_success")
    model, by = "{{job}} {{model}}", "namespace, job, model"
    succeeded = "nv_inference_request_success"
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    times = [(f"{mean(f'nv_inference_{part}_duration_us', succeeded, by)} / 1e6", f"{model} {part}") for part in parts]
    made = row(
        made,
        "Now",
        number("Pods that answer", "none", f"sum by (namespace, job) (up{{{OURS}}})"),
        number("Requests per second", "reqps", f"sum by (namespace, job) ({rate(succeeded)})"),
        number("Failures per second", "reqps", f"sum by (namespace, job) ({rate('nv_inference_request_failure')})"),
        number("Waiting", "none", f"sum by (namespace, job) (nv_inference_pending_request_count{{{OURS}}})"),
        number("GPU in use", "percentunit", f"avg by (namespace, job) (nv_gpu_utilization{{{OURS}}})"),
        number("CPU in use", "percentunit", f"avg by (namespace, job) (nv_cpu_utilization{{{OURS}}})"),
    )
    return row(
        made,
        "Models",
        panel("Requests per second", "reqps", (f"sum by ({by}) ({rate(succeeded)})", model)),
        panel(
            "Failures per second",
            "reqps",
            (f"sum by ({by}, reason) ({rate('nv_inference_request_failure')})", f"{model} {{{{reason}}}}"),
            what="CANCELED are those that clients gave up.",
        ),
        panel("Waiting", "none", (f"sum by ({by}) (nv_inference_pending_request_count{{{OURS}}})", model)),
        panel(
            "Whole request, mean",
            "s",
            (f"{mean('nv_inference_request_duration_us', succeeded, by)} / 1e6", model),
        ),
        panel("Where the time goes, mean", "s", *times),
        panel(
            "Inferences of one batch",
            "none",
            (mean("nv_inference_count", "nv_inference_exec_count", by), model),
        ),
        panel("GPU in use", "percentunit", (f"nv_gpu_utilization{{{OURS}}}", "{{pod}} {{gpu_uuid}}")),
        panel(
            "GPU memory",
            "bytes",
            (f"nv_gpu_memory_used_bytes{{{OURS}}}", "{{pod}} {{gpu_uuid}} used"),
            (f"nv_gpu_memory_total_bytes{{{OURS}}}", "{{pod}} {{gpu_uuid}} total"),
        ),
        panel("CPU in use", "percentunit", (f"nv_cpu_utilization{{{OURS}}}", "{{pod}}")),
    )


def mlserver() -> dashboard.Dashboard:
    """Make the dashboard of MLServer."""
    made = board("mlserver", "MLServer", "MLServers, model by model", "rest_server_requests_total")
    model, by = "{{job}} {{model}}", "namespace, job, model"
    duration = "model_infer_request_duration"
    made = row(
        made,
        "Now",
        number("Pods that answer", "none", f"sum by (namespace, job) (up{{{OURS}}})"),
        number(
            "Predictions per second", "reqps", f"sum by (namespace, job) ({rate('model_infer_request_success_total')})"
        ),
        number(
            "Failures per second", "reqps", f"sum by (namespace, job) ({rate('model_infer_request_failure_total')})"
        ),
        number("In progress", "none", f"sum by (namespace, job) (rest_server_requests_in_progress{{{OURS}}})"),
        number("HTTP, 95 %", "s", quantile(0.95, "rest_server_request_duration_seconds")),
        number("Prediction, mean", "s", mean(f"{duration}_sum", f"{duration}_count")),
    )
    return row(
        made,
        "Models",
        panel(
            "Predictions per second", "reqps", (f"sum by ({by}) ({rate('model_infer_request_success_total')})", model)
        ),
        panel("Failures per second", "reqps", (f"sum by ({by}) ({rate('model_infer_request_failure_total')})", model)),
        panel("Prediction, mean", "s", (mean(f"{duration}_sum", f"{duration}_count", by), model)),
        panel(
            "HTTP answers by status",
            "reqps",
            (
                f"sum by (namespace, job, status_code) ({rate('rest_server_requests_total')})",
                f"{SERVER} {{{{status_code}}}}",
            ),
        ),
        panel(
            "gRPC answers by code",
            "reqps",
            (
                f"sum by (namespace, job, grpc_code) ({rate('grpc_server_handled_total')})",
                f"{SERVER} {{{{grpc_code}}}}",
            ),
        ),
        panel(
            "In progress",
            "none",
            (f"sum by (namespace, job, pod) (rest_server_requests_in_progress{{{OURS}}})", "{{job}} {{pod}}"),
        ),
    )


def fleet() -> dashboard.Dashboard:
    """Make the dashboard of all clusters."""
    requests = ("vllm:request_success_total", "nv_inference_request_success", "model_infer_request_success_total")
    made = board("fleet", "Model servers", "All kinds of servers, over all clusters", *requests, job=False)
    price = dashboard.TextBoxVariable("gpu_price").label("Dollars per GPU and hour").default_value("1")
    made = made.with_variable(price.description("What a GPU costs you per hour, for the panels of cost."))
    server, legend = "cluster, namespace, job", "{{cluster}} {{namespace}} {{job}}"
    pods = f"(up{{{PLACE}}} and on ({server}) {served(requests, PLACE)})"
    firing = f'ALERTS{{{PLACE}, alertstate="firing", alertname=~"(VLLM|Triton|MLServer).+"}}'
    # Of pods that run: what waits for a node, or has ended, holds none.
    gpus = (
        f"(max by (cluster, namespace, pod, container, resource) (kube_pod_container_resource_requests{{{PLACE}, {GPUS}}}) "
        "* on (cluster, namespace, pod) group_left () "
        f'max by (cluster, namespace, pod) (kube_pod_status_phase{{{PLACE}, phase="Running"}}))'
    )
    asked = f"sum by (cluster, namespace, pod) (increase(vllm:request_success_total{{{PLACE}}}[1h]))"
    idle = f"(sum by (cluster, namespace, pod) ({gpus}) and on (cluster, namespace, pod) ({asked} == 0))"
    errors = (
        'http_requests_total{PLACE, status=~"5.."}',
        "nv_inference_request_failure{PLACE}",
        "model_infer_request_failure_total{PLACE}",
    )
    every = " or ".join(f"sum by ({server}) ({rate(name, PLACE)})" for name in requests)
    failures = [f"sum by ({server}) (rate({one.replace('PLACE', PLACE)}[$__rate_interval]))" for one in errors]
    made = row(
        made,
        "Now",
        number("Pods that answer", "none", f"sum ({pods})"),
        number("Requests per second", "reqps", f"sum ({every})"),
        number("Alerts that fire", "none", f"count ({firing}) or vector(0)"),
        number("GPUs in use", "none", f"sum ({gpus})", what="That pods which run have asked for."),
        number("GPUs per hour", "currencyUSD", f"sum ({gpus}) * $gpu_price"),
        number(
            "Idle per hour",
            "currencyUSD",
            f"sum ({idle}) * $gpu_price",
            what="Of vLLM's pods without a request for an hour.",
        ),
    )
    made = row(
        made,
        "Servers",
        panel("Pods that answer", "none", (f"sum by ({server}) ({pods})", legend)),
        panel(
            "Pods that are wanted and not ready",
            "none",
            (
                f"kube_deployment_spec_replicas{{{PLACE}}} - kube_deployment_status_replicas_ready{{{PLACE}}} > 0",
                "{{cluster}} {{namespace}} {{deployment}}",
            ),
            what="Of every Deployment in these namespaces, by kube-state-metrics.",
        ),
        panel("Alerts that fire", "none", (f"count by (cluster, alertname) ({firing})", "{{cluster}} {{alertname}}")),
        panel("Requests per second", "reqps", (every, legend)),
        panel("Failures per second", "reqps", (" or ".join(failures), legend)),
        panel(
            "First token, 95 %",
            "s",
            (
                f"histogram_quantile(0.95, sum by ({server}, le) ({rate('vllm:time_to_first_token_seconds_bucket', PLACE)}))",
                legend,
            ),
            what="Of vLLM.",
        ),
    )
    return row(
        made,
        "Cost",
        panel("GPUs in use", "none", (f"sum by (cluster, namespace) ({gpus})", "{{cluster}} {{namespace}}")),
        panel(
            "GPUs without a request for an hour",
            "none",
            (f"sum by (cluster, namespace, pod) ({idle})", "{{cluster}} {{pod}}"),
        ),
        panel(
            "Tokens generated per second",
            "none",
            (f"sum by ({server}) ({rate('vllm:generation_tokens_total', PLACE)})", legend),
        ),
    )


BOARDS = {"vllm": vllm, "triton": triton, "mlserver": mlserver, "platform": fleet}


def text_of(made: dashboard.Dashboard) -> str:
    """Write a dashboard as a file has it: with lines that a change can be read in."""
    written = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    for place, one in enumerate(written["panels"], 1):
        one["id"] = place
    return json.dumps(written, indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Write the files, or with --check only tell which are stale."""
    stale = []
    for role, make in BOARDS.items():
        file, text = ROOT / "roles" / role / "files" / "dashboard.json", text_of(make())
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            stale.append(str(file.relative_to(ROOT)))
            if "--check" not in sys.argv:
                file.parent.mkdir(exist_ok=True)
                file.write_text(text, encoding="utf-8")
    sys.stdout.write("\n".join(stale) + "\n" if stale else "the dashboards are up to date\n")
    return bool(stale) if "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
