"""Write roles/vllm/architectures.yml: what a config.json may leave out, from the configuration classes of transformers.

.venv/bin/python tools/architectures.py PYTHON_WITH_TRANSFORMERS
"""
