"""Prices, quotas and savings plans: services that moto does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.support.awscloud.call import Call
from tests.support.awscloud.reply import Reply, json_reply, page, refusal

if TYPE_CHECKING:
    from tests.support.awscloud.front import Front

PRODUCTS_MAX: Final = 100


def get_products(front: Front, call: Call) -> Reply:
    """On-demand prices, each product a JSON text within the JSON, as the real one does it."""
    wanted = {one["Field"]: one["Value"] for one in call.parameters.get("Filters", [])}
    rows = [
        _product(shape, region, usd)
        for (shape, region), usd in sorted(front.market.on_demand.items())
        if wanted.get("regionCode", region) == region and wanted.get("instanceType", shape) == shape
    ]
    shown, following = page(call, rows, most=front.market.page or PRODUCTS_MAX)
    answer = {"FormatVersion": "aws_v1", "PriceList": shown}
    return json_reply({**answer, "NextToken": following} if following else answer)


def _product(shape: str, region: str, usd: float) -> str:
    dimension = {
        "unit": "Hrs",
        "pricePerUnit": {"USD": f"{usd:.10f}"},
        "description": "per On Demand Linux Instance Hour",
    }
    facts = {"instanceType": shape, "regionCode": region, "operatingSystem": "Linux", "capacitystatus": "Used"}
    terms = {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}, "effectiveDate": "2026-01-01T00:00:00Z"}}}
    return json.dumps({"product": {"productFamily": "Compute Instance", "attributes": facts}, "terms": terms})


def list_service_quotas(front: Front, call: Call) -> Reply:
    rows = [
        {"ServiceCode": "ec2", "QuotaCode": code, "Value": vcpus, "Unit": "None", "Adjustable": True}
        for (region, code), vcpus in sorted(front.market.quotas.items())
        if region == call.region
    ]
    shown, following = page(call, rows, most=front.market.page or PRODUCTS_MAX)
    return json_reply({"Quotas": shown, **({"NextToken": following} if following else {})})


def describe_savings_plans(front: Front, call: Call) -> Reply:
    return json_reply({"savingsPlans": front.market.plans})


def no_backend(front: Front, call: Call) -> Reply:
    return refusal(call, "UnknownOperationException")


HANDLERS: Final[dict[tuple[str, str], Callable[[Front, Call], Reply]]] = {
    ("pricing", "GetProducts"): get_products,
    ("servicequotas", "ListServiceQuotas"): list_service_quotas,
    ("savingsplans", "DescribeSavingsPlans"): describe_savings_plans,
}
