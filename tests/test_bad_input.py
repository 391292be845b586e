"""Bad input through the real playbook: each message says which variable, its value, what is allowed and where it is set, and
the cluster is untouched.

Each case is a variable or a few of a host, and one run of the playbook covers all hosts. What is refused before a cluster is asked
is tested without one; the other cases are hosts of one cluster, once while it is empty and once after a successful deploy.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from rendering import ROOT, playbook


@dataclass
class Bad:
    """Wrong lines of a variables file, and what the run must say about them.

    The message must point at the line of `text` that ends in "# bad". No line does where the message is about the cluster
    or an object, or where the value can't know its place (true, false, null).

    A case that is `apart` would change the messages of others, so it is on a host of its own.
    """

    file: str
    text: str
    variable: str
    value: str
    allowed: str
    apart: bool = False

    @property
    def keys(self) -> set[str]:
        """The variables that it sets."""
        return set(yaml.safe_load(self.text))


# Types and names of variables: told for all roles at once.
CHECKED = {
    "more-than-an-int32": Bad(
        "vllm", "vllm_replicas: 4294967298 # bad", "vllm_replicas", "4294967298", "from 0 to 2147483647"
    ),
    "negative-seconds": Bad(
        "apply", "apply_margin: -1 # bad", "apply_margin", "-1", "must be a whole number from 0 to"
    ),
    "number-below": Bad(
        "triton",
        "triton_readiness_probe:\n  periodSeconds: 99999999999 # bad",
        "triton_readiness_probe.periodSeconds",
        "99999999999",
        "must be a whole number from 1 to 2147483647",
    ),
    "number-for-a-name": Bad(
        "platform", "platform_cluster_name: 5 # bad", "platform_cluster_name", "5", "must be a text: put it in quotes"
    ),
    "number-for-a-profile": Bad(
        "mlserver",
        "mlserver_profiles:\n  123: {} # bad",
        "mlserver_profiles.123",
        "123",
        "the key must be a text: put it in quotes",
    ),
    "injection": Bad(
        "vllm_judge",
        'vllm_judge_priority_class_name: "x\\n      hostNetwork: true" # bad',
        "vllm_judge_priority_class_name",
        "'x\\n      hostNetwork: true'",
        "must be a name",
    ),
    "control-character": Bad(
        "triton", 'triton_env:\n  A: "b\\0" # bad', "triton_env.A", "(hidden)", "must not hold the character U+0000"
    ),
    "whole-number": Bad("triton", "triton_replicas: two # bad", "triton_replicas", "'two'", "must be a whole number"),
    "decimal": Bad("vllm", "vllm_replicas: 1.5 # bad", "vllm_replicas", "1.5", "must be a whole number"),
    "truth": Bad(
        "vllm_judge", "vllm_judge_parked: perhaps # bad", "vllm_judge_parked", "'perhaps'", "must be true or false"
    ),
    "text-for-list": Bad(
        "triton", "triton_models: resnet18_imagenette # bad", "triton_models", "'resnet18_imagenette'", "must be a list"
    ),
    "text-for-dictionary": Bad("vllm", "vllm_env: A=b # bad", "vllm_env", "'A=b'", "must be a dictionary"),
    "list-for-dictionary": Bad("vllm", "vllm_resources: [4] # bad", "vllm_resources", "[4]", "must be a dictionary"),
    "dictionary-for-text": Bad("triton", "triton_name: {a: b} # bad", "triton_name", "{'a': 'b'}", "must be a text"),
    "number-for-text": Bad(
        "triton", "triton_image: 25.10 # bad", "triton_image", "25.1", "must be a text: put it in quotes"
    ),
    "true-for-list": Bad(
        "triton", "triton_enabled_profiles: true # bad", "triton_enabled_profiles", "True", "must be a list"
    ),
    "null-for-list": Bad(
        "triton", "triton_enabled_profiles: # bad", "triton_enabled_profiles", "None", "must be a list"
    ),
    "profile-is-no-dictionary": Bad(
        "platform",
        "platform_hardware_profiles:\n  gpu: g4dn # bad",
        "platform_hardware_profiles.gpu",
        "'g4dn'",
        "must be a dictionary",
    ),
    "type-inside-a-profile": Bad(
        "triton",
        "triton_profiles:\n  cpu:\n    replicas: two # bad",
        "triton_profiles.cpu.replicas",
        "'two'",
        "must be a whole number",
    ),
    "type-inside-a-list": Bad(
        "triton", "triton_models:\n  - a\n  - {b: c} # bad", "triton_models[1]", "{'b': 'c'}", "must be a text"
    ),
    "delivery": Bad(
        "platform", "platform_delivery: flux # bad", "platform_delivery", "'flux'", "must be one of direct, gitops"
    ),
    "pull-policy": Bad(
        "vllm",
        "vllm_image_pull_policy: Sometimes # bad",
        "vllm_image_pull_policy",
        "'Sometimes'",
        "must be one of Always, IfNotPresent, Never",
    ),
    "control-mode": Bad(
        "triton", "triton_model_control_mode: manual # bad", "triton_model_control_mode", "'manual'", "explicit"
    ),
    "cache-type": Bad(
        "vllm",
        "vllm_cache:\n  type: disk # bad\n  size: 8Gi",
        "vllm_cache.type",
        "'disk'",
        "must be one of empty_dir, claim",
    ),
    "misspelt": Bad("triton", "triton_repilcas: 3 # bad", "triton_repilcas", "3", "did you mean triton_replicas?"),
    "misspelt-role": Bad(
        "platform",
        "platfrom_namespace: models # bad",
        "platfrom_namespace",
        "'models'",
        "did you mean platform_namespace?",
    ),
    "misspelt-judge": Bad(
        "vllm_judge",
        "vllm_jugde_variant: judge # bad",
        "vllm_jugde_variant",
        "'judge'",
        "did you mean vllm_judge_variant?",
    ),
    "misspelt-apply": Bad("apply", "apply_lock_wiat: 5 # bad", "apply_lock_wiat", "5", "did you mean apply_lock_wait?"),
    "misspelt-in-a-profile": Bad(
        "triton",
        "triton_profiles:\n  cpu:\n    repilcas: 3 # bad",
        "triton_profiles.cpu.repilcas",
        "3",
        "did you mean replicas?",
    ),
    "misspelt-in-a-profile-that-is-off": Bad(
        "vllm_judge",
        "vllm_judge_variants:\n  judge-large:\n    max_modle_len: 8192 # bad",
        "vllm_judge_variants.judge-large.max_modle_len",
        "8192",
        "did you mean max_model_len?",
    ),
    "misspelt-in-a-hardware-profile": Bad(
        "platform",
        "platform_hardware_profiles:\n  gpu:\n    alocatable: {cpu: 1} # bad",
        "platform_hardware_profiles.gpu.alocatable",
        "{'cpu': 1}",
        "did you mean allocatable?",
    ),
    "misspelt-resources": Bad(
        "vllm",
        "vllm_resources:\n  requets: {cpu: 1} # bad",
        "vllm_resources.requets",
        "{'cpu': 1}",
        "did you mean requests?",
    ),
    "misspelt-connection": Bad(
        "platform",
        "platform_connection:\n  api_kye: very-secret # bad",
        "platform_connection.api_kye",
        "(hidden)",
        "did you mean api_key?",
    ),
    "misspelt-application-key": Bad(
        "argocd_apps",
        "argocd_apps_overrides:\n  vllm-inference:\n    sync_wav: 1 # bad",
        "argocd_apps_overrides.vllm-inference.sync_wav",
        "1",
        "did you mean sync_wave?",
    ),
    "allocatable-of-a-pool": Bad(
        "platform",
        "platform_hardware_profiles:\n  gpu:\n    allocatable:\n      memory: lots # bad",
        "platform_hardware_profiles.gpu.allocatable.memory",
        "'lots'",
        "must be a quantity such as 14162Mi",
    ),
    "unfinished-pool": Bad(
        "platform",
        "platform_hardware_profiles:\n  mine:\n    instance_type: g6.xlrage # bad",
        "platform_hardware_profiles.mine",
        "{'instance_type': 'g6.xlrage', 'gpu_resource': 'nvidia.com/gpu'}",
        "needs labels",
    ),
    "namespace-name": Bad(
        "platform",
        "platform_namespace: ML_Models # bad",
        "platform_namespace",
        "'ML_Models'",
        "lower-case letters, digits and -",
    ),
    "label": Bad(
        "platform",
        "platform_extra_labels:\n  team: a b # bad",
        "platform_extra_labels.team",
        "'a b'",
        "must be up to 63 letters",
    ),
    "label-number": Bad(
        "platform",
        "platform_extra_labels:\n  cost-centre: 42 # bad",
        "platform_extra_labels.cost-centre",
        "42",
        "put it in quotes",
    ),
    "our-label": Bad(
        "platform",
        "platform_extra_labels:\n  modelyard/cluster: x # bad",
        "platform_extra_labels.modelyard/cluster",
        "'x'",
        "modelyard sets this key itself",
    ),
    "taint": Bad(
        "platform",
        "platform_hardware_profiles:\n  gpu:\n    taints:\n      - {key: nvidia.com/gpu, effect: NoShedule} # bad",
        "platform_hardware_profiles.gpu.taints[0].effect",
        "'NoShedule'",
        "must be one of NoSchedule",
    ),
    "mirror": Bad(
        "platform",
        "platform_image_registry_mirrors:\n  nvcr.io: https://mirror.example # bad",
        "platform_image_registry_mirrors.nvcr.io",
        "'https://mirror.example'",
        "without a scheme",
    ),
    "proxy": Bad(
        "platform",
        "platform_proxy:\n  http_proxy: proxy.example:3128 # bad",
        "platform_proxy.http_proxy",
        "'proxy.example:3128'",
        "must be a URL",
    ),
    "arn": Bad(
        "triton",
        "triton_role_name: arn:aws:iam::123:role/reader # bad",
        "triton_role_name",
        "'arn:aws:iam::123:role/reader'",
        "arn:",
    ),
    "role-name": Bad(
        "irsa",
        "irsa_workflow_role_name: my role # bad",
        "irsa_workflow_role_name",
        "'my role'",
        "must be up to 64 letters, digits and +=,.@_-, or a whole ARN",
    ),
    "account": Bad(
        "platform",
        'platform_aws_account_id: "1234" # bad',
        "platform_aws_account_id",
        "'1234'",
        "must be the 12 digits of the AWS account",
    ),
    "no-account": Bad(
        "platform",
        'platform_aws_account_id: "" # bad',
        "platform_aws_account_id",
        "''",
        "must be the 12 digits of the AWS account",
    ),
    "region": Bad(
        "platform",
        "platform_aws_region: Frankfurt # bad",
        "platform_aws_region",
        "'Frankfurt'",
        "must be an AWS region such as eu-central-1",
    ),
    "partition": Bad(
        "platform",
        "platform_aws_partition: aws-cn # bad",
        "platform_aws_partition",
        "'aws-cn'",
        "must be aws, the partition of the region eu-central-1",
        apart=True,
    ),
    "uid": Bad(
        "platform",
        "platform_kube_system_uid: kube-system # bad",
        "platform_kube_system_uid",
        "'kube-system'",
        "must be a UID such as",
    ),
    "connection-host": Bad(
        "platform",
        "platform_connection:\n  host: 127.0.0.1:6443 # bad",
        "platform_connection.host",
        "'127.0.0.1:6443'",
        "must be a URL",
    ),
    "negative": Bad(
        "vllm", "vllm_replicas: -1 # bad", "vllm_replicas", "-1", "must be a whole number from 0 to 2147483647"
    ),
    "quantity": Bad(
        "triton",
        "triton_profiles:\n  cpu:\n    resources:\n      limits:\n        memory: 8GiB # bad",
        "triton_profiles.cpu.resources.limits.memory",
        "'8GiB'",
        "must be a Kubernetes quantity such as 500m, 4 or 14Gi",
    ),
    "negative-quantity": Bad(
        "vllm",
        "vllm_resources:\n  requests: {cpu: -1, memory: 12Gi} # bad\n  limits: {cpu: 4, memory: 14Gi, nvidia.com/gpu: 1}",
        "vllm_resources.requests.cpu",
        "-1",
        "must not be negative",
    ),
    "size-of-a-volume": Bad(
        "vllm", "vllm_tmp_size: 1 Gi # bad", "vllm_tmp_size", "'1 Gi'", "must be a Kubernetes quantity"
    ),
    "more-than-all-memory": Bad(
        "vllm",
        "vllm_gpu_memory_utilization: 88 # bad",
        "vllm_gpu_memory_utilization",
        "88",
        "must be a number from 0 to 1",
    ),
    "port": Bad(
        "triton", "triton_http_port: 70000 # bad", "triton_http_port", "70000", "must be a whole number from 1 to 65535"
    ),
    "port-zero": Bad(
        "vllm", "vllm_http_port: 0 # bad", "vllm_http_port", "0", "must be a whole number from 1 to 65535"
    ),
    "name": Bad(
        "triton",
        "triton_profiles:\n  cpu:\n    name: Triton_CPU # bad",
        "triton_profiles.cpu.name",
        "'Triton_CPU'",
        "must be a DNS label",
    ),
}

# Servers and Applications: told for all roles whose variables have the right types at once.
COMPUTED = {
    "triton-profile": Bad(
        "triton",
        "triton_enabled_profiles:\n  - cpu\n  - gpu\n  - gpuu # bad",
        "triton_enabled_profiles[2]",
        "'gpuu'",
        "did you mean 'gpu'? Known: cpu, gpu",
    ),
    "hardware-profile-of-a-profile": Bad(
        "triton",
        "triton_profiles:\n  gpu:\n    hardware_profile: a10 # bad",
        "triton_profiles.gpu.hardware_profile",
        "'a10'",
        "unknown. Known: cpu-compute, gpu",
    ),
    "hardware-profile-of-a-variant": Bad(
        "vllm_judge",
        "vllm_judge_variants:\n  judge:\n    hardware_profile: gpu-vllm-lage # bad",
        "vllm_judge_variants.judge.hardware_profile",
        "'gpu-vllm-lage'",
        "did you mean 'gpu-vllm-large'?",
    ),
    "two-profiles-one-name": Bad(
        "triton",
        "triton_profiles:\n  gpu:\n    name: triton-inference # bad",
        "triton_profiles.gpu.name",
        "'triton-inference'",
        "another server's Deployment",
    ),
    "a-profile-twice": Bad(
        "triton",
        "triton_enabled_profiles:\n  - cpu\n  - gpu\n  - cpu # bad",
        "triton_enabled_profiles[2]",
        "'cpu'",
        "is listed twice",
    ),
    "judge-named-as-vllm": Bad(
        "vllm_judge", "vllm_judge_name: vllm # bad", "vllm_judge_name", "'vllm'", "is the name that vllm_name gives"
    ),
    "request-above-limit": Bad(
        "vllm",
        "vllm_resources:\n  requests: {cpu: 3, memory: 13Gi} # bad\n  limits: {cpu: 4, memory: 12Gi, nvidia.com/gpu: 1}",
        "vllm_resources.requests.memory",
        "'13Gi'",
        "must not be above the limit, 12Gi",
    ),
    "request-above-limit-in-a-profile": Bad(
        "triton",
        "triton_profiles:\n  cpu:\n    resources:\n      requests:\n        cpu: 4500m # bad",
        "triton_profiles.cpu.resources.requests.cpu",
        "'4500m'",
        "must not be above the limit, 4",
    ),
    "half-a-gpu": Bad(
        "triton",
        "triton_profiles:\n  gpu:\n    resources:\n      limits:\n        nvidia.com/gpu: 500m # bad",
        "triton_profiles.gpu.resources.limits.nvidia.com/gpu",
        "'500m'",
        "must be a whole number of GPUs",
    ),
    "shared-memory-above-memory": Bad(
        "vllm", "vllm_shm_size: 14Gi # bad", "vllm_shm_size", "'14Gi'", "must be below its memory limit"
    ),
    "tensor-parallel": Bad(
        "vllm",
        "vllm_tensor_parallel_size: 2 # bad",
        "vllm_tensor_parallel_size",
        "2",
        "must equal the number of GPUs, 1",
        apart=True,
    ),
    "lora-rank": Bad(
        "vllm",
        "vllm_max_lora_rank: 24 # bad",
        "vllm_max_lora_rank",
        "24",
        "must be one of 1, 8, 16, 32, 64, 128, 256, 320, 512",
    ),
    "model-too-large": Bad(
        "vllm",
        "vllm_gpu_memory_utilization: 0.2 # bad",
        "vllm_gpu_memory_utilization",
        "0.2",
        "TheBloke/Mistral-7B-v0.1-AWQ does not fit",
    ),
    "no-room-for-graphs": Bad(
        "vllm",
        "vllm_gpu_memory_utilization: 0.99 # bad",
        "vllm_gpu_memory_utilization",
        "0.99",
        "CUDA itself takes more",
    ),
    "claim-for-two": Bad(
        "vllm",
        "vllm_replicas: 2\nvllm_cache:\n  type: claim\n  size: 8Gi\n  access_mode: ReadWriteOnce # bad",
        "vllm_cache.access_mode",
        "'ReadWriteOnce'",
        "has room for 1 of its pods, and there are 2; use ReadWriteMany or an empty_dir",
    ),
    "surge-on-a-claim": Bad(
        "vllm",
        "vllm_cache: {type: claim, size: 8Gi, access_mode: ReadWriteOncePod}\nvllm_strategy: {rollingUpdate: {maxSurge: 1}} # bad",
        "vllm_strategy",
        "{'rollingUpdate': {'maxSurge': 1}}",
        "set maxSurge to 0",
        apart=True,
    ),
    "eager-judge": Bad(
        "vllm_judge",
        "vllm_judge_extra_args:\n  enforce-eager: true",
        "vllm_judge_extra_args.enforce-eager",
        "True",
        "never for the judge",
    ),
    "argument-with-a-variable": Bad(
        "vllm",
        "vllm_extra_args:\n  max-model-len: 8192 # bad",
        "vllm_extra_args.max-model-len",
        "8192",
        "has a variable of its own",
    ),
    "model-name": Bad(
        "vllm",
        "vllm_model: https://hf.example/model # bad",
        "vllm_model",
        "'https://hf.example/model'",
        "must be a Hugging Face repository",
        apart=True,
    ),
    "port-twice": Bad(
        "triton", "triton_metrics_port: 8000 # bad", "triton_metrics_port", "8000", "the ports must differ", apart=True
    ),
    "image": Bad(
        "vllm",
        "vllm_image: 'Vllm/vLLM: latest' # bad",
        "vllm_image",
        "'Vllm/vLLM: latest'",
        "must be an image reference",
    ),
    "image-without-tag": Bad(
        "vllm", "vllm_image: vllm/vllm-openai # bad", "vllm_image", "'vllm/vllm-openai'", "must have a tag or a digest"
    ),
    "image-with-scheme": Bad(
        "triton",
        "triton_image: https://nvcr.io/nvidia/tritonserver:25.11-py3 # bad",
        "triton_image",
        "'https://nvcr.io/nvidia/tritonserver:25.11-py3'",
        "must be an image",
    ),
    "selector-label": Bad(
        "vllm", "vllm_pod_labels:\n  app: other # bad", "vllm_pod_labels.app", "'other'", "is the selector"
    ),
    "grace": Bad(
        "triton",
        "triton_termination_grace_seconds: 35 # bad",
        "triton_termination_grace_seconds",
        "35",
        "must be above drain_seconds",
    ),
    "deadline": Bad(
        "triton",
        "triton_progress_deadline_seconds: 60 # bad",
        "triton_progress_deadline_seconds",
        "60",
        "must be more than the start alone",
    ),
    "judge-variant": Bad(
        "vllm_judge",
        "vllm_judge_variant: judge-lage # bad",
        "vllm_judge_variant",
        "'judge-lage'",
        "did you mean 'judge-large'? Known: judge, judge-large, none",
        apart=True,
    ),
    "hardware-profile": Bad(
        "vllm",
        "vllm_hardware_profile: gpu-vlm # bad",
        "vllm_hardware_profile",
        "'gpu-vlm'",
        "did you mean 'gpu-vllm'? Known: cpu-compute, gpu, gpu-vllm",
        apart=True,
    ),
    "tensor-parallel-of-a-variant": Bad(
        "vllm_judge",
        "vllm_judge_variant: judge-large\nvllm_judge_variants:\n  judge-large:\n    tensor_parallel_size: 2 # bad",
        "vllm_judge_variants.judge-large.tensor_parallel_size",
        "2",
        "must equal the number of GPUs, 4",
        apart=True,
    ),
    "unknown-model-without-a-time": Bad(
        "vllm",
        "vllm_model: my-org/my-model\nvllm_startup_seconds: null",
        "vllm_startup_seconds",
        "None",
        "the model is not known",
        apart=True,
    ),
    "no-adapters-without-lora": Bad(
        "vllm_judge",
        "vllm_judge_variant: judge\nvllm_judge_adapter_slots: {mine: live} # bad",
        "vllm_judge_adapter_slots",
        "{'mine': 'live'}",
        "adapters need vllm_judge_lora_enabled",
        apart=True,
    ),
    "two-applications-one-name": Bad(
        "argocd_apps",
        "argocd_apps_extra:\n  vllm-inference: {path: extra} # bad",
        "argocd_apps_extra.vllm-inference",
        "{'path': 'extra'}",
        "is there already",
    ),
    "overridden-application": Bad(
        "argocd_apps",
        "argocd_apps_overrides:\n  vllm-inferense: # bad\n    sync_wave: 1",
        "argocd_apps_overrides.vllm-inferense",
        "'vllm-inferense'",
        "did you mean 'vllm-inference'?",
    ),
    "project-of-others": Bad(
        "argocd_apps",
        "argocd_apps_project_create: true\nargocd_apps_project: default # bad",
        "argocd_apps_project",
        "'default'",
        "belongs to Argo CD",
    ),
    "half-a-credential": Bad(
        "argocd_apps",
        "argocd_apps_repository: {password: very-secret}",
        "argocd_apps_repository",
        "(hidden)",
        "must have both username and password",
    ),
}

# They have another meaning together, or hide others: a host for each.
ALONE = {
    "start-shorter-than-download": Bad(
        "vllm", "vllm_startup_seconds: 20 # bad", "vllm_startup_seconds", "20", "GiB of weights alone take"
    ),
    "patch-without-spec": Bad("vllm", "vllm_patch:\n  spec: # bad", "vllm_patch.spec", "None", "a patch must leave"),
    "patch-of-another": Bad(
        "triton",
        "triton_patch:\n  metadata:\n    namespace: other # bad",
        "triton_patch.metadata.namespace",
        "'other'",
        "a patch must leave metadata.namespace as it is",
    ),
    "undefined": Bad(
        "triton", 'triton_name: "{{ nowhere }}" # bad', "triton_name", "'{{ nowhere }}'", "'nowhere' is undefined"
    ),
    "service-of-another-role": Bad(
        "triton",
        "triton_profiles:\n  cpu:\n    service_name: vllm-service",
        "vllm_service_name",
        "'vllm-service'",
        "is the name that triton_profiles.cpu.service_name gives to another server's Service",
    ),
    "vllm-profile-named-as-vllm": Bad(
        "vllm",
        "vllm_enabled_profiles: [vllm, fast]\nvllm_profiles:\n  fast:\n    name: vllm # bad",
        "vllm_profiles.fast.name",
        "'vllm'",
        "is the name that vllm_name gives to another server's Deployment",
    ),
    "vllm-profile-in-the-judges-folder": Bad(
        "vllm",
        "vllm_enabled_profiles: [vllm, judge]\nvllm_profiles: {judge: {}}",
        "argocd_apps",
        "'vllm-inference-judge'",
        "two Applications have this name",
    ),
    "unknown-vllm-profile": Bad(
        "vllm",
        "vllm_enabled_profiles:\n  - vllm\n  - fsat # bad\nvllm_profiles: {fast: {}}",
        "vllm_enabled_profiles[1]",
        "'fsat'",
        "did you mean 'fast'? Known: fast, vllm",
    ),
    "for-all-servers": Bad(
        "model_server",
        "model_server_min_ready_seconds: soon # bad",
        "model_server_min_ready_seconds",
        "'soon'",
        "must be a whole number",
    ),
    "gone": Bad(
        "argocd_apps",
        "argocd_apps_vllm: false",
        "argocd_apps_vllm",
        "False",
        "no such variable of the role argocd_apps",
    ),
    "octal-account": Bad(
        "platform", "platform_aws_account_id: 012345670123 # bad", "platform_aws_account_id", "", "octal"
    ),
    "no-cluster-named": Bad("platform", 'platform_api_server: ""', "platform_api_server", "", "set at least one"),
}

# Told only when the cluster is asked.
CLUSTER = {
    "account-of-another-role": Bad(
        "irsa",
        "irsa_workflow_service_account: vllm-sa",
        "ServiceAccount ml-models/vllm-sa",
        "is rendered twice",
        "two objects can't have one name",
    ),
    "more-gpus-than-a-node-has": Bad(
        "triton",
        "triton_profiles:\n  gpu:\n    resources:\n      limits:\n        nvidia.com/gpu: 2 # bad",
        "triton_profiles.gpu.resources.limits.nvidia.com/gpu",
        "2",
        "a node of hardware profile 'gpu' has 1 to give",
    ),
    "another-cluster": Bad(
        "platform",
        "platform_api_server: https://10.0.0.1:6443",
        "platform_api_server",
        "https://10.0.0.1:6443",
        "but the connection (platform_connection or K8S_AUTH_*) leads to https://127.0.0.1",
    ),
    "another-uid": Bad(
        "platform",
        'platform_api_server: ""\nplatform_kube_system_uid: 0b5c6d2e-7f3a-4a8e-9d51-2c1f0e9b7a64',
        "platform_kube_system_uid",
        "0b5c6d2e-7f3a-4a8e-9d51-2c1f0e9b7a64",
        "but the cluster at",
    ),
    "unreachable": Bad(
        "platform",
        "platform_connection: {host: 'https://127.0.0.1:1', api_key: x}\nplatform_api_server: https://127.0.0.1:1",
        "cluster unreachable",
        "",
        "127.0.0.1:1 does not answer",
    ),
    "no-kubeconfig": Bad(
        "platform",
        "platform_connection: {kubeconfig: /nowhere/kubeconfig}",
        "/nowhere/kubeconfig",
        "",
        "the connection settings can't be used",
    ),
    "no-context": Bad(
        "platform",
        "platform_connection:\n  kubeconfig: \"{{ lookup('ansible.builtin.env', 'MODELYARD_KUBECONFIG') }}\"\n  context: nowhere",
        "cluster no-context",
        "nowhere",
        "the connection settings can't be used",
    ),
    "no-namespace": Bad(
        "platform",
        "platform_namespace: nowhere\nplatform_create_namespaces: false",
        "namespace nowhere",
        "",
        "does not exist, and nothing here creates it: create it, or set platform_create_namespaces to true",
    ),
    "no-argocd": Bad(
        "platform",
        "platform_delivery: gitops\nplatform_argocd_namespace: nowhere",
        "namespace nowhere",
        "",
        "does not exist, and nothing here creates it",
    ),
    "above-allocatable": Bad(
        "vllm",
        "vllm_resources:\n  requests: {cpu: 3, memory: 14Gi} # bad\n  limits: {cpu: 4, memory: 14Gi, nvidia.com/gpu: 1}",
        "vllm_resources.requests.memory",
        "'14Gi'",
        "a node of hardware profile 'gpu-vllm' has 14162Mi to give",
    ),
    "patch": Bad(
        "vllm",
        "vllm_patch:\n  spec: {replcas: 2}",
        "Deployment ml-models/vllm",
        "spec.replcas",
        "a field that Kubernetes does not know",
    ),
    "volume": Bad(
        "triton",
        "triton_extra_volumes: [{name: own, emptyDirr: {}}]",
        "Deployment ml-models/triton-inference",
        "emptyDirr",
        "a field that Kubernetes does not know",
    ),
}

CASES = CHECKED | COMPUTED | ALONE | CLUSTER


def bins() -> dict[str, list[str]]:
    """Put cases that can be told together on one host: {host: its cases}."""
    hosts: dict[str, list[str]] = {name: [name] for name in ALONE | CLUSTER}
    taken: dict[str, set[str]] = {}
    for group, cases in (("checked", CHECKED), ("computed", COMPUTED)):
        for name, case in cases.items():
            number = 1
            apart = "-apart" if case.apart else ""
            while taken.setdefault(host := f"{group}{apart}-{number}", set()) & case.keys:
                number += 1
            taken[host] |= case.keys
            hosts.setdefault(host, []).append(name)
    return hosts


HOSTS = bins()
HOST_OF = {name: host for host, names in HOSTS.items() for name in names}
TOKENS = {
    "no-rights": "this credential may not create, delete, patch deployments (apps) in namespace ml-models",
    "no-such-token": "cluster no-such-token: Unauthorized",
}

# A host on a cluster renders no more than its case needs; these are about several roles.
WHOLE = {"account-of-another-role"}
OFF = {"triton": "triton_enabled_profiles: []", "vllm": "vllm_enabled: false", "vllm_judge": "vllm_judge_variant: none"}


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def common(folder: Path) -> None:
    """Write what all hosts have: the variables of the local inventory."""
    for file in (ROOT / "inventories/local/group_vars/clusters").glob("*.yml"):
        write(folder / "group_vars/clusters" / file.name, file.read_text())


def inventory(folder: Path, hosts: list[str]) -> None:
    """Write the inventory of these hosts, with the variables of their cases."""
    common(folder)
    write(folder / "hosts.yml", yaml.safe_dump({"clusters": {"hosts": dict.fromkeys(hosts)}}))
    for host in hosts:
        names = HOSTS.get(host, [])
        for role in {CASES[name].file for name in names}:
            texts = [CASES[name].text.replace("# bad", f"# bad: {name}") for name in names if CASES[name].file == role]
            write(folder / f"host_vars/{host}/{role}.yml", "---\n# Written by a test.\n" + "\n\n".join(texts) + "\n")
        if host in CLUSTER:
            needed = {CASES[name].file for name in names} | (set(OFF) if host in WHOLE else set())
            write(
                folder / f"host_vars/{host}/off.yml", "\n".join(OFF[role] for role in OFF if role not in needed) + "\n"
            )


def place(folder: Path, name: str) -> str:
    """Where a case's wrong line is, as a message says it; '' for none."""
    file = folder / f"host_vars/{HOST_OF[name]}/{CASES[name].file}.yml"
    lines = file.read_text().splitlines()
    return next((f"(set at {file}:{n})" for n, line in enumerate(lines, 1) if line.endswith(f"# bad: {name}")), "")


def check(name: str, folder: Path, messages: dict[str, str]) -> None:
    """Check what was told of a case."""
    case, text = CASES[name], messages[HOST_OF[name]]
    lines = [line for line in text.splitlines() if case.variable in line and case.allowed in line]
    assert lines, text
    assert case.value in lines[0]
    where = place(folder, name)
    if where:
        assert f"{case.variable} is {case.value}" in lines[0]
        assert where in lines[0]


@dataclass
class Outcome:
    """What a run of the playbook on all hosts told."""

    folder: Path
    code: int
    text: str
    messages: dict[str, str]
    stats: dict[str, dict]

    @classmethod
    def of(cls, done, folder: Path) -> "Outcome":
        """Read a run's output."""
        # Actions tell what they do in lines of their own, before the JSON text.
        report = json.loads(done.stdout[done.stdout.index("{\n") :])
        tasks = [task for played in report["plays"] for task in played["tasks"]]
        messages = {
            host: found["msg"] for task in tasks for host, found in task["hosts"].items() if found.get("failed")
        }
        return cls(folder, done.returncode, done.stdout + done.stderr, messages, report["stats"])


JSON_OUTPUT = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}

# --- Without a cluster -----------------------------------------------------------------------------

ALONE_HOSTS = [host for host in HOSTS if host not in CLUSTER]
# What is wrong with one role hides nothing of another's, whatever is wrong with it.
TOGETHER = {
    "platform_namespace": "ML_Models",
    "triton_replicas": "two",
    "vllm_replicas": -1,
    "vllm_judge_variants": {"judge": {"hardware_profile": "gpu-vlm"}},
    "irsa_workflow_rolename": "x",
    "apply_wait": "perhaps",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Outcome:
    """The one run on all hosts whose case needs no cluster."""
    folder = tmp_path_factory.mktemp("bad")
    inventory(folder, ["fine", "together", *ALONE_HOSTS])
    write(folder / "host_vars/together/all.yml", yaml.safe_dump(TOGETHER))
    return Outcome.of(playbook("site", folder, **JSON_OUTPUT), folder)


def test_every_host_is_refused_before_its_cluster_is_asked(told):
    assert told.code
    assert set(told.messages) == {"fine", "together", *ALONE_HOSTS}
    assert "/nowhere" in told.messages["fine"]
    for host in ALONE_HOSTS:
        assert told.messages[host].startswith(f"cluster {host}: Nothing was applied. "), host
        assert "/nowhere" not in told.messages[host]
    assert [host for host, numbers in told.stats.items() if numbers["changed"]] == []


@pytest.mark.parametrize("name", [name for host in ALONE_HOSTS for name in HOSTS[host]])
def test_the_message_names_variable_value_rule_and_place(told, name):
    check(name, told.folder, told.messages)


def test_what_is_wrong_is_told_of_all_roles_together(told):
    said = told.messages["together"]
    for line in (
        "platform_namespace is 'ML_Models': must be a name of up to 63 lower-case letters, digits and -",
        "triton_replicas is 'two': must be a whole number",
        "vllm_judge_variants.judge.hardware_profile is 'gpu-vlm': unknown, did you mean 'gpu-vllm'?",
        "irsa_workflow_rolename is 'x': no such variable of the role irsa, did you mean irsa_workflow_role_name?",
        "apply_wait is 'perhaps': must be true or false",
        "vllm_replicas is -1: must be a whole number from 0 to 2147483647",
    ):
        assert line in said, line


def test_no_secret_is_shown(told):
    assert "very-secret" not in told.text


def refused(folder, *args) -> str:
    """Run the playbook, which must fail before it asks its cluster; returns what it said, as one line."""
    done = playbook("site", folder, *args)
    assert done.returncode
    assert "changed=1" not in done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert "connection settings" not in said
    return said


def test_a_misspelt_extra_variable_is_refused():
    said = refused(ROOT / "inventories/local", "-e", "triton_repilcas=3", "-e", "vllm_replicas=many")
    assert "triton_repilcas is '3': no such variable of the role triton, did you mean triton_replicas?" in said
    assert "vllm_replicas is 'many': must be a whole number" in said


def test_the_place_is_found_in_groups_files_and_the_hosts_file(tmp_path):
    common(tmp_path)
    write(tmp_path / "group_vars/europe/triton.yml", "---\ntriton_autoscaled: perhaps\n")
    write(tmp_path / "more.yml", "---\n# more\nvllm_max_loras: few\n")
    children = {"europe": {"hosts": {"one": {"platform_do_not_disrupt": 3}}}}
    write(tmp_path / "hosts.yml", yaml.safe_dump({"clusters": {"children": children}}))
    said = refused(tmp_path / "hosts.yml", "-e", f"@{tmp_path}/more.yml")
    assert (
        f"triton_autoscaled is 'perhaps': must be true or false (set at {tmp_path}/group_vars/europe/triton.yml:2)"
        in said
    )
    assert f"vllm_max_loras is 'few': must be a whole number (set at {tmp_path}/more.yml:3)" in said
    assert f"platform_do_not_disrupt is 3: must be true or false (set at {tmp_path}/hosts.yml:" in said


def test_a_cluster_that_the_inventory_lacks_is_refused():
    assert "nowhere" in refused(ROOT / "inventories/local", "--limit", "nowhere")


def test_a_bad_cluster_beside_is_not_the_limited_ones_business(tmp_path):
    common(tmp_path)
    write(tmp_path / "hosts.yml", yaml.safe_dump({"clusters": {"hosts": dict.fromkeys(["right", "wrong"])}}))
    write(tmp_path / "host_vars/wrong/triton.yml", "---\ntriton_replicas: two\n")
    done = playbook("render", tmp_path, "--limit", "right", "--check", "-e", f"tree_repository={tmp_path}")
    assert re.search(r"right +: ok=.* failed=0", done.stdout), done.stdout
    assert "wrong" not in done.stdout


def test_an_inventory_that_does_not_parse_is_refused(tmp_path):
    write(tmp_path / "hosts.yml", "clusters: [\n")
    assert str(tmp_path) in refused(tmp_path)


# --- With a cluster --------------------------------------------------------------------------------

# Two of what needs none are there too: a run that is refused early touches nothing either.
CLUSTER_HOSTS = [*CLUSTER, "checked-1", "computed-1", *TOKENS]
STATES = ("empty cluster", "after a deploy")


@pytest.fixture(scope="module")
def outcomes(cluster, tmp_path_factory) -> dict[str, tuple[Outcome, list[str]]]:
    """By state of the cluster, what a run told and what it touched; `good` is what is deployed in between."""
    cluster.reset()
    cluster.kubectl("create", "serviceaccount", "reader", "-n", "default")
    cluster.kubectl("create", "clusterrolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:reader")
    token = cluster.kubectl("create", "token", "reader", "-n", "default").stdout.strip()
    folder = tmp_path_factory.mktemp("bad")
    inventory(folder, ["good", *CLUSTER_HOSTS])
    for host, key in {"no-rights": token, "no-such-token": "not-a-token"}.items():
        connection = {"host": cluster.url, "api_key": key, "validate_certs": False}
        write(folder / f"host_vars/{host}/platform.yml", yaml.safe_dump({"platform_connection": connection}))

    def play(hosts: list[str]) -> tuple[Outcome, list[str]]:
        before = cluster.resource_versions()
        done = cluster.playbook("site", "--limit", ",".join(hosts), inventory=folder, env=JSON_OUTPUT, check=False)
        after = cluster.resource_versions()
        assert token not in done.stdout + done.stderr
        touched = sorted(key for key in before | after if before.get(key) != after.get(key))
        return Outcome.of(done, folder), touched

    empty = play(CLUSTER_HOSTS)
    cluster.playbook("site", "--limit", "good", inventory=folder)
    return dict(zip(STATES, (empty, play(["good", *CLUSTER_HOSTS])), strict=True))


@pytest.mark.parametrize("state", STATES)
def test_the_cluster_is_untouched(outcomes, state):
    outcome, touched = outcomes[state]
    assert outcome.code
    assert touched == []
    assert [host for host, numbers in outcome.stats.items() if numbers["changed"]] == []
    assert set(outcome.stats) - {"good"} == set(outcome.messages) == set(CLUSTER_HOSTS)
    assert "very-secret" not in outcome.text


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", [name for host in CLUSTER_HOSTS for name in HOSTS.get(host, [])])
def test_the_message_of_a_run_on_a_cluster(outcomes, state, name):
    outcome, _ = outcomes[state]
    check(name, outcome.folder, outcome.messages)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("host", TOKENS)
def test_a_credential_that_may_not(outcomes, state, host):
    assert TOKENS[host] in outcomes[state][0].messages[host]
