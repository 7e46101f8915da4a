# The package as it is in this folder, on the CPU build of torch:
#   docker build -t gossamer .
#   docker run --rm -v "$PWD/out:/out" gossamer demo --out /out
# The workbench listens to its own machine alone, which for a container is the host's network (Linux):
#   docker run --rm --network host -v "$PWD/out:/out" gossamer view /out --no-browser
FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
# Builds the workbench's page too, with Node from the package index.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    HF_HOME=/home/gossamer/.cache/huggingface
COPY --from=build /wheels /wheels
COPY constraints.txt /constraints.txt
RUN wheel="$(ls /wheels/*.whl)" \
    && pip install --no-cache-dir --constraint /constraints.txt "${wheel}[app,datasets,explain,parquet,relations,store]" \
    && useradd --create-home gossamer \
    && mkdir /out && chown gossamer /out
USER gossamer
WORKDIR /home/gossamer
ENTRYPOINT ["gossamer"]
CMD ["--help"]
